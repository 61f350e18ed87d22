"""The function itself: its code, its configuration, and what becomes of asynchronous calls that fail."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fnmap.aws.clients import Clients
from fnmap.aws.deployment import Resource
from fnmap.aws.policies import PACKAGES
from fnmap.aws.troubles import code_of, maybe
from fnmap.errors import DeployError

DIRECT_BYTES = 50 * 1024 * 1024  # a larger zip goes through the bucket
ROLE_PATIENCE_S = 60.0
_GONE = "ResourceNotFoundException"
_CONFIGURED = ("Runtime", "Handler", "Role", "MemorySize", "Timeout", "EphemeralStorage", "Environment")


class Function:
    """Lambda. Variables and tags that others have added are left as they are."""

    def read(self, aws: Clients, name: str) -> dict[str, Any] | None:
        found = maybe(aws["lambda"].get_function, _GONE, FunctionName=name)
        if not found:
            return None
        said = found["Configuration"]
        properties = {
            "FunctionName": name,
            "Architectures": said.get("Architectures", ["x86_64"]),
            "Code": {"Sha256": base64.b64decode(said["CodeSha256"]).hex()},
            "EphemeralStorage": {"Size": 512},
            "Environment": {"Variables": {}},
            "Tags": found.get("Tags", {}),
            "ReservedConcurrentExecutions": found.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
        }
        return properties | {key: said[key] for key in _CONFIGURED if key in said}

    def write(self, aws: Clients, resource: Resource, now: Mapping[str, Any] | None) -> None:
        client, name, wanted = aws["lambda"], resource.name, resource.properties
        if now is None:
            self._create(aws, resource)
        else:
            self._change(aws, resource, now)
        if (most := wanted.get("ReservedConcurrentExecutions")) is not None:
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=most)

    def _create(self, aws: Clients, resource: Resource) -> None:
        client, wanted = aws["lambda"], resource.properties
        arguments = {key: wanted[key] for key in (*_CONFIGURED, "FunctionName", "Architectures")}
        code = _code(aws, wanted)
        patiently(lambda: client.create_function(Code=code, Tags=dict(wanted["Tags"]), **arguments))
        client.get_waiter("function_active_v2").wait(FunctionName=resource.name)

    def _change(self, aws: Clients, resource: Resource, now: Mapping[str, Any]) -> None:
        client, name, wanted = aws["lambda"], resource.name, resource.properties
        settled = client.get_waiter("function_updated_v2")
        if wanted["Architectures"] != now["Architectures"] or wanted["Code"]["Sha256"] != now["Code"]["Sha256"]:
            code = _code(aws, wanted)
            client.update_function_code(FunctionName=name, Architectures=wanted["Architectures"], **code)
            settled.wait(FunctionName=name)
        variables = {**now["Environment"]["Variables"], **wanted["Environment"]["Variables"]}
        configured = {key: wanted[key] for key in _CONFIGURED} | {"Environment": {"Variables": variables}}
        if any(configured[key] != now.get(key) for key in _CONFIGURED):
            patiently(lambda: client.update_function_configuration(FunctionName=name, **configured))
            settled.wait(FunctionName=name)
        if wanted["Tags"].items() - now["Tags"].items():
            arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
            client.tag_resource(Resource=arn, Tags=dict(wanted["Tags"]))

    def delete(self, aws: Clients, name: str) -> None:
        aws["lambda"].delete_function(FunctionName=name)


class Events:
    """What becomes of asynchronous calls that fail. Goes with its function."""

    def read(self, aws: Clients, name: str) -> dict[str, Any] | None:
        found = maybe(aws["lambda"].get_function_event_invoke_config, _GONE, FunctionName=name)
        if not found:
            return None
        return {
            "FunctionName": name,
            "Qualifier": "$LATEST",
            "MaximumRetryAttempts": found.get("MaximumRetryAttempts"),
            "DestinationConfig": found.get("DestinationConfig", {}),
        }

    def write(self, aws: Clients, resource: Resource, now: Mapping[str, Any] | None) -> None:  # noqa: ARG002 - as of its kind
        wanted = {key: value for key, value in resource.properties.items() if key != "Qualifier"}
        patiently(lambda: aws["lambda"].put_function_event_invoke_config(**wanted))

    def delete(self, aws: Clients, name: str) -> None:
        maybe(aws["lambda"].delete_function_event_invoke_config, _GONE, FunctionName=name)


def _code(aws: Clients, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The zip as a request names it: in the request itself, or uploaded to the bucket."""
    code = wanted["Code"]
    path = Path(code["Path"])
    if path.stat().st_size <= DIRECT_BYTES:
        return {"ZipFile": path.read_bytes()}
    bucket = wanted["Environment"]["Variables"]["FNMAP_STORE"].removeprefix("s3://")
    key = f"{PACKAGES}{code['Sha256']}.zip"
    _leave_only(aws, bucket, key)
    aws["s3"].upload_file(str(path), bucket, key)
    return {"S3Bucket": bucket, "S3Key": key}


def _leave_only(aws: Clients, bucket: str, key: str) -> None:
    """Remove packages of earlier deployments: Lambda has its own copy of what it runs."""
    listed = aws["s3"].list_objects_v2(Bucket=bucket, Prefix=PACKAGES).get("Contents", ())
    if old := [{"Key": one["Key"]} for one in listed if one["Key"] != key]:
        aws["s3"].delete_objects(Bucket=bucket, Delete={"Objects": old})


def patiently(call: Callable[[], Any], *, pause_s: float = 2.0) -> Any:
    """Do what needs a role that was made or changed a moment ago: it is not known everywhere at once, and nothing
    tells when it is."""
    from botocore.exceptions import ClientError

    give_up = time.monotonic() + ROLE_PATIENCE_S
    while True:
        try:
            return call()
        except ClientError as error:
            if code_of(error) != "InvalidParameterValueException" or "role" not in str(error):
                raise
            if time.monotonic() > give_up:
                raise DeployError(
                    f"{error}; the role is not known after {ROLE_PATIENCE_S:g} s: run it again"
                ) from error
            time.sleep(pause_s)
