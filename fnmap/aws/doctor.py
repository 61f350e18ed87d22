"""Is a deployment well? Each check says what it found in a line, and what mends it if it is not."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any, Literal

from fnmap.aws.clients import Clients
from fnmap.aws.deploy import place_of
from fnmap.aws.deployment import TMP, Deployment, function_of
from fnmap.aws.package import code_hash
from fnmap.aws.troubles import code_of, explain, maybe, told
from fnmap.errors import DeployError

FEW = 100  # environments at once, below which an account should ask for more
_GONE = "ResourceNotFoundException"
_QUOTA = "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `mend`: the command, or what else is to be done; of a problem always, of a note perhaps."""

    state: Literal["ok", "note", "problem"]
    about: str
    said: str
    mend: str = ""


def examine(region: str | None = None, name: str = "fnmap") -> Iterator[Finding]:
    """All checks, as they are made. It ends at the first without which the others make no sense."""
    try:
        aws = Clients(region)
        yield Finding("ok", "credentials", aws.who)
        patient = _Patient(aws, place_of(aws, name))
    except DeployError as error:
        said, _, mend = str(error).rpartition("; ")
        about = "region" if "region" in said else "credentials"
        yield Finding("problem", about, said, mend)
        return
    yield Finding("ok", "region", aws.region)
    for about, check in patient.checks.items():
        yield from _guarded(about, check)


def _guarded(about: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield from check()
    except (ClientError, BotoCoreError) as error:
        yield Finding("problem", about, *explain(error))


class _Patient:
    """One deployment."""

    def __init__(self, aws: Clients, deployment: Deployment) -> None:
        self.aws, self.deployment = aws, deployment
        self.deploy = "fnmap deploy" + ("" if deployment.name == "fnmap" else f" --name {deployment.name}")
        self.checks: Mapping[str, Callable[[], Iterator[Finding]]] = {
            "bucket": self.bucket,
            "function": self.function,
            "sizes": self.sizes,
            "packages": self.packages,
            "concurrency": self.concurrency,
            "dead letters": self.dead_letters,
            "round trip": self.round_trip,
        }

    @cached_property
    def configuration(self) -> dict[str, Any] | None:
        """Of the function, if it is there."""
        return self._configuration(self.deployment.name)

    def _configuration(self, function: str) -> dict[str, Any] | None:
        return maybe(self.aws["lambda"].get_function_configuration, _GONE, FunctionName=function) or None

    @property
    def variables(self) -> dict[str, str]:
        return _variables(self.configuration)

    def bucket(self) -> Iterator[Finding]:
        """Is it there, and can we write, read and delete?"""
        from botocore.exceptions import ClientError

        s3, name, key, body = self.aws["s3"], self.deployment.bucket, f"{TMP}doctor-{uuid.uuid4().hex}", b"well?"
        try:
            s3.put_object(Bucket=name, Key=key, Body=body)
        except ClientError as error:
            if code_of(error) in ("NoSuchBucket", "404"):
                yield Finding("problem", "bucket", f"there is no bucket {name}", self.deploy + self._elsewhere())
                return
            raise
        read = s3.get_object(Bucket=name, Key=key)["Body"].read()
        s3.delete_object(Bucket=name, Key=key)
        if read != body:
            yield Finding("problem", "bucket", f"{name} gave back other bytes than were written", self.deploy)
        else:
            yield Finding("ok", "bucket", f"{name}: written, read, deleted")

    def _elsewhere(self) -> str:
        """Is there a deployment of that name in another region?"""
        start = f"{self.deployment.name}-{self.deployment.account}-"
        try:
            with told():
                found = [
                    b["Name"] for b in self.aws["s3"].list_buckets().get("Buckets", ()) if b["Name"].startswith(start)
                ]
        except DeployError:  # nobody needs the permission to list buckets
            return ""
        regions = ", ".join(name.removeprefix(start) for name in found)
        return f"; or set AWS_REGION: it is deployed in {regions}" if regions else ""

    def function(self) -> Iterator[Finding]:
        """Is it there, in working order, of our code and our Python?"""
        said, name = self.configuration, self.deployment.name
        if said is None:
            yield Finding("problem", "function", f"{name} is not deployed in {self.aws.region}", self.deploy)
            return
        if (state := said.get("State", "Active")) != "Active":
            why = said.get("StateReason", "")
            yield Finding("problem", "function", f"{name} is {state}: {why}", self.deploy)
        ours, theirs = code_hash(), self.variables.get("FNMAP_CODE", "none")
        if ours != theirs:
            yield Finding(
                "problem", "function", f"it has other code of fnmap ({theirs}) than is here ({ours})", self.deploy
            )
        here, there = _python(), said.get("Runtime", "")
        if here != there:
            mend = f"{self.deploy} --python {here.removeprefix('python')}, or run {there} here"
            yield Finding("problem", "function", f"it runs {there}, and this is {here}", mend)
        if state == "Active" and (ours, here) == (theirs, there):
            size = f"{said['MemorySize']:,} MB, {said['Timeout']} s"
            yield Finding("ok", "function", f"{name}: {there}, {size}, code {theirs}")

    def sizes(self) -> Iterator[Finding]:
        """Are the functions with more memory there, and as the first is but for that?"""
        first, found = self.configuration, []
        for times in [int(times) for times in self.variables.get("FNMAP_SIZES", "1").split()[1:]] if first else ():
            name = function_of(self.deployment.name, times)
            said = self._configuration(name)
            if said is None:
                wrong = "is not there"
            elif (state := said.get("State", "Active")) not in ("Active", "Inactive"):
                wrong = f"is {state}: {said.get('StateReason', '')}"
            else:
                wrong = self._differs(said, times)
            if wrong:
                yield Finding("problem", "sizes", f"{name} {wrong}", self.deploy)
            else:
                found.append(name)
        if found:
            yield Finding("ok", "sizes", ", ".join(found))

    def _differs(self, said: Mapping[str, Any], times: int) -> str:
        """What a function of another size has otherwise than the first, and should not; "" if nothing."""
        first = self.configuration or {}
        if said["MemorySize"] != times * first["MemorySize"]:
            return f"has {said['MemorySize']:,} MB and not {times} times {first['MemorySize']:,}"
        alike = ["CodeSha256", "Handler", "Role", "Runtime", "Timeout"]
        apart = [key for key in alike if said.get(key) != first.get(key)]
        ours = {name: value for name, value in self.variables.items() if name.startswith("FNMAP_")}
        apart += [name for name, value in ours.items() if _variables(said).get(name) != value]
        return f"differs from {self.deployment.name} in {', '.join(apart)}" if apart else ""

    def packages(self) -> Iterator[Finding]:
        """Are packages there of the versions that are here? What is pickled in one may not load in another."""
        if self.configuration is None:
            return
        pairs = (pair.partition("=") for pair in self.variables.get("FNMAP_PACKAGES", "").split())
        there = {name: version for name, _, version in pairs}
        apart = {
            name: (version, here) for name, version in there.items() if (here := _installed(name)) not in ("", version)
        }
        far = {name: both for name, both in apart.items() if _far(name, *both)}
        for state, found in (("problem", far), ("note", {n: b for n, b in apart.items() if n not in far})):
            if found:
                said = "; ".join(f"{name} {theirs} there, {ours} here" for name, (theirs, ours) in found.items())
                pins = " ".join(f"{name}=={theirs}" for name, (theirs, _) in found.items())
                mend = f"pip install {pins}, or {self.deploy} with a newer --python"
                yield Finding("problem" if state == "problem" else "note", "packages", said, mend)
        if not apart:
            yield Finding("ok", "packages", " ".join(f"{name} {version}" for name, version in there.items()) or "none")

    def concurrency(self) -> Iterator[Finding]:
        """How many environments may run at once?"""
        limit = self.aws["lambda"].get_account_settings()["AccountLimit"]
        most, free = limit["ConcurrentExecutions"], limit.get("UnreservedConcurrentExecutions", 0)
        said = f"{most:,} at once in this account and region, {free:,} of them not reserved"
        if most < FEW:
            yield Finding("note", "concurrency", said, f"{_QUOTA} --desired-value 1000")
        else:
            yield Finding("ok", "concurrency", said)

    def dead_letters(self) -> Iterator[Finding]:
        """Asynchronous calls that failed and that nobody has looked at."""
        from botocore.exceptions import ClientError

        sqs, name = self.aws["sqs"], self.deployment.queue
        try:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except ClientError as error:
            if "NonExistentQueue" not in code_of(error) and "QueueDoesNotExist" not in code_of(error):
                raise
            yield Finding("problem", "dead letters", f"there is no queue {name}", self.deploy)
            return
        names = ["ApproximateNumberOfMessages"]
        count = int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"][names[0]])
        if count:
            yield Finding("problem", "dead letters", f"{count:,} wait", f"aws sqs receive-message --queue-url {url}")
        else:
            yield Finding("ok", "dead letters", "none wait")

    def round_trip(self) -> Iterator[Finding]:
        """Call it twice: the first call may have to start an environment. The other sizes differ in memory only."""
        if self.configuration is None:
            return
        took_ms, logs = [], f"aws logs tail {self.deployment.log_group} --since 10m"
        for _ in range(2):
            begun = time.perf_counter()
            answer = self.aws["lambda"].invoke(FunctionName=self.deployment.name, Payload=b'{"ping": 1}')
            body = answer["Payload"].read()
            took_ms.append(1000 * (time.perf_counter() - begun))
            if answer.get("FunctionError"):
                yield Finding("problem", "round trip", _failed(body), logs)
                return
        if "pong" not in _read(body):
            yield Finding("problem", "round trip", f"it answers {body[:80]!r}, which is no pong", self.deploy)
        else:
            yield Finding("ok", "round trip", f"{took_ms[1]:.0f} ms; the call before it {took_ms[0]:.0f} ms")


def _variables(said: Mapping[str, Any] | None) -> dict[str, str]:
    return dict((said or {}).get("Environment", {}).get("Variables", {}))


def _far(name: str, one: str, other: str) -> bool:
    """Do pickles of the one perhaps not load in the other? pyarrow has a major version each quarter, and pickles in
    the Arrow format, which all of them read."""
    return name != "pyarrow" and one.partition(".")[0] != other.partition(".")[0]


def _read(body: bytes) -> Any:
    try:
        return json.loads(body) or ()
    except ValueError:
        return ()


def _failed(body: bytes) -> str:
    said = _read(body)
    return (
        f"it failed: {said.get('errorType')}: {said.get('errorMessage')}" if isinstance(said, dict) else repr(body[:80])
    )


def _python() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
