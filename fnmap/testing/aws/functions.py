"""What a function is: the fields of CreateFunction, checked as the real service checks them."""

from __future__ import annotations

import json
import re
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fnmap.testing.aws.errors import Refused, constraint, invalid
from fnmap.testing.aws.settings import ENVIRONMENT_BYTES, Settings

Fields = dict[str, Any]
BOUNDS = {"Timeout": (1, 900), "MemorySize": (128, 10_240)}
DEFAULTS: Fields = {
    "Description": "",
    "Timeout": 3,
    "MemorySize": 128,
    "PackageType": "Zip",
    "Architectures": ["x86_64"],
    "EphemeralStorage": {"Size": 512},
    "TracingConfig": {"Mode": "PassThrough"},
    "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
}
KEPT = {*DEFAULTS, "FunctionName", "Runtime", "Role", "Handler", "Environment", "DeadLetterConfig", "LoggingConfig"}
ELSEWHERE = {"Code", "Tags", "Publish", "RevisionId", "DryRun", "ZipFile", "S3Bucket", "S3Key", "S3ObjectVersion"}
RESERVED = {
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
}


@dataclass(frozen=True)
class Code:
    """A zip that was taken, and where it lies unpacked."""

    sha: str
    size: int
    root: Path
    zip: Path


@dataclass(frozen=True)
class Config:
    """One state of a function; each change makes another, with environments of its own."""

    name: str
    arn: str
    code: Code
    fields: Fields
    revision: str
    modified: str

    @property
    def timeout_s(self) -> float:
        """How long an invocation may take."""
        return float(self.fields["Timeout"])

    @property
    def memory_mb(self) -> int:
        """How much memory the processes of an environment may have."""
        return int(self.fields["MemorySize"])

    @property
    def variables(self) -> dict[str, str]:
        """The function's own environment variables."""
        return dict(self.fields.get("Environment", {}).get("Variables", {}))

    @property
    def log_group(self) -> str:
        """Where the real service would write the log."""
        return str(self.fields.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{self.name}")

    def to_json(self) -> Fields:
        """What GetFunctionConfiguration answers."""
        return {
            **self.fields,
            "FunctionArn": self.arn,
            "CodeSize": self.code.size,
            "CodeSha256": self.code.sha,
            "Version": "$LATEST",
            "RevisionId": self.revision,
            "LastModified": self.modified,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": self.log_group, **self.fields.get("LoggingConfig", {})},
        }

    def changed(self, *, fields: Fields | None = None, code: Code | None = None) -> Config:
        """The function after an update."""
        return replace(
            self,
            fields=self.fields | (fields or {}),
            code=code or self.code,
            revision=str(uuid.uuid4()),
            modified=now(),
        )


def now() -> str:
    """The time as Lambda writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


def create(request: Fields, code: Code, settings: Settings) -> Config:
    """A new function."""
    fields = DEFAULTS | checked(request, settings)
    name = fields["FunctionName"]
    for needed in ("Runtime", "Handler", "Role"):
        if not fields.get(needed):
            raise invalid(f"{needed} is mandatory for functions created with deployment packages.")
    return Config(name, settings.arn(name), code, fields, str(uuid.uuid4()), now())


def checked(request: Fields, settings: Settings) -> Fields:
    """The fields of a request that describe the function; refuses what is out of bounds and what is not built."""
    given = {name: value for name, value in request.items() if value not in (None, {}, [], "")}
    given = {name: value for name, value in given.items() if value != {"ApplyOn": "None"}}
    if unknown := {*given} - KEPT - ELSEWHERE:
        raise invalid(f"The local Lambda service does not build {', '.join(sorted(unknown))}.")
    name = given.get("FunctionName", "f")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise constraint(name, "functionName", "satisfy regular expression pattern: [a-zA-Z0-9-_]{1,64}")
    for field, (low, high) in BOUNDS.items():
        bounded(given.get(field, low), field[0].lower() + field[1:], low, high)
    bounded(given.get("EphemeralStorage", {}).get("Size", 512), "ephemeralStorage.size", 512, 10_240)
    _runtime(given, settings)
    _variables(given.get("Environment", {}).get("Variables", {}))
    return {name: value for name, value in given.items() if name in KEPT}


def bounded(value: int, name: str, low: int, high: int) -> None:
    if value < low:
        raise constraint(value, name, f"have value greater than or equal to {low}")
    if value > high:
        raise constraint(value, name, f"have value less than or equal to {high}")


def _runtime(given: Fields, settings: Settings) -> None:
    here = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if settings.light is None and given.get("Runtime", here) != here:
        raise invalid(f"The local Lambda service runs {here} only, not {given['Runtime']}.")
    if given.get("PackageType", "Zip") != "Zip":
        raise invalid("The local Lambda service runs functions of PackageType Zip only.")


def _variables(variables: dict[str, str]) -> None:
    refused = (
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
    )
    if taken := sorted({*variables} & RESERVED):
        raise invalid(
            f"{refused}contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(taken)}"
        )
    measured = json.dumps(variables, separators=(",", ":"))
    if len(measured.encode()) > ENVIRONMENT_BYTES:
        raise invalid(f"{refused}exceeded the 4KB limit. String measured: {measured}")


def unchanged(config: Config, request: Fields) -> None:
    """Refuse an update that was meant for another revision."""
    if request.get("RevisionId") not in (None, config.revision):
        raise Refused(
            412,
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )
