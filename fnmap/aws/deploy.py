"""Make what exists equal to what a deployment should be: compare, show, apply; and take it all away again."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from fnmap.aws.clients import Clients
from fnmap.aws.deployment import TAG, Deployment, Resource, log_group, resources, variables_of
from fnmap.aws.kinds import KINDS
from fnmap.aws.package import Package, code_hash
from fnmap.aws.troubles import told
from fnmap.errors import DeployError, UsageError

log = logging.getLogger(__name__)

Action = Literal["create", "change", "keep", "delete"]
_HIDDEN = ("FNMAP_SECRET",)
_NOT_COMPARED = ("Code.Path",)  # of this machine


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one resource. `details`: what of it from what to what, a line each."""

    action: Action
    resource: Resource
    now: Mapping[str, Any] | None = None
    details: tuple[str, ...] = ()


def settled(aws: Clients, name: str, said: Mapping[str, Any]) -> Deployment:
    """The deployment as it was asked for; of what was not said, as it is deployed, else the default."""
    known = {option.name for option in fields(Deployment)}
    if unknown := said.keys() - known:
        raise UsageError(f"a deployment has no {sorted(unknown)}; it has {', '.join(sorted(known))}")
    deployment = place_of(aws, name)
    with told():
        kept = _deployed(aws, deployment)
    return replace(deployment, **{**kept, **{key: value for key, value in said.items() if value is not None}})


def place_of(aws: Clients, name: str) -> Deployment:
    """The deployment of that name as far as names go. Raises UsageError if the name is wrong."""
    return Deployment(aws.account, aws.region, aws.partition, name)


def _deployed(aws: Clients, deployment: Deployment) -> dict[str, Any]:
    """The options with which it was deployed last, as far as what exists tells."""
    found: dict[str, Any] = {}
    if function := KINDS["AWS::Lambda::Function"].read(aws, deployment.name):
        found |= {"python": function["Runtime"].removeprefix("python"), "arch": function["Architectures"][0]}
        found |= {"memory_mb": function["MemorySize"], "timeout_s": function["Timeout"]}
        found |= {"disk_mb": function["EphemeralStorage"]["Size"]}
        variables = function["Environment"]["Variables"]
        found["metrics"] = variables.get("FNMAP_METRICS") == "1"
        found["sizes"] = tuple(int(times) for times in variables.get("FNMAP_SIZES", "1").split())[1:]
    if (logs := KINDS["AWS::Logs::LogGroup"].read(aws, deployment.log_group)) and logs["RetentionInDays"]:
        found["log_days"] = logs["RetentionInDays"]
    if bucket := KINDS["AWS::S3::Bucket"].read(aws, deployment.bucket):
        days = [rule.get("ExpirationInDays") for rule in bucket["LifecycleConfiguration"]["Rules"]]
        found |= {"tmp_days": max(filter(None, days))} if any(days) else {}
    return found


def plan(aws: Clients, deployment: Deployment, package: Package) -> list[Change]:
    """Compare what should be with what exists. Changes nothing."""
    with told():
        function = KINDS["AWS::Lambda::Function"].read(aws, deployment.name)
        changes = [_change(aws, resource) for resource in wanted(deployment, package, _secret(deployment, function))]
        return changes + _sizes(aws, deployment.name, but=deployment.functions.values())


def left_out(aws: Clients, name: str, package: Package) -> list[str]:
    """The packages that the deployed function has and this package has not, as pip takes them."""
    with told():
        function = KINDS["AWS::Lambda::Function"].read(aws, name)
    there = _variables(function).get("FNMAP_PACKAGES", "").split()
    gone = [pair.partition("=") for pair in there if pair.partition("=")[0] not in package.versions]
    return [f"{name}=={version}" for name, _, version in gone]


def wanted(deployment: Deployment, package: Package, secret: str) -> list[Resource]:
    """The resources of a deployment with this package."""
    code = {"Path": str(package.path), "Sha256": package.sha256}
    variables = variables_of(deployment, secret=secret, code=code_hash(), versions=package.versions)
    return resources(deployment, code, variables)


def _change(aws: Clients, resource: Resource) -> Change:
    now = KINDS[resource.kind].read(aws, resource.name)
    if now is None:
        return Change("create", resource)
    details = tuple(
        f"{path}: {_shown(path, was)} -> {_shown(path, will)}"
        for path, was, will in differences(resource.properties, now)
    )
    return Change("change" if details else "keep", resource, now, details)


def differences(wanted: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where they differ, what is and what should be. What exists may have more than is wanted."""
    if isinstance(wanted, Mapping):
        for key, value in wanted.items():
            there = now.get(key) if isinstance(now, Mapping) else None
            yield from differences(value, there, f"{path}.{key}" if path else key)
    elif wanted != now and path not in _NOT_COMPARED:
        yield path, now, wanted


def _shown(path: str, value: Any) -> str:
    if path.endswith(_HIDDEN):
        return "(secret)"
    if value is None:
        return "nothing"
    text, most = str(value), 12 if path.endswith("Sha256") else 60
    return text if len(text) <= most else text[: most - 1] + "…"


def apply(aws: Clients, changes: Sequence[Change], told_of: Callable[[Change], None] = lambda _: None) -> None:
    """Carry out a plan, in its order. `told_of` hears of each change before it is begun."""
    for change in changes:
        if change.action == "keep":
            continue
        told_of(change)
        with told():
            if change.action == "delete":
                KINDS[change.resource.kind].delete(aws, change.resource.name)
            else:
                KINDS[change.resource.kind].write(aws, change.resource, change.now)


def plan_destroy(aws: Clients, name: str, *, keep_data: bool = False) -> list[Change]:
    """What there is of a deployment, to be deleted in this order. `keep_data`: all but the bucket."""
    place = place_of(aws, name)
    changes = []
    with told():
        for resource in reversed(resources(place, {}, {})):
            if keep_data and resource.kind == "AWS::S3::Bucket":
                continue
            if resource.kind == "AWS::SQS::Queue":
                changes += _queues(aws, name)
            elif resource.kind == "AWS::Lambda::Function":
                changes += [*_existing(aws, resource), *_sizes(aws, name)]
            else:
                changes += _existing(aws, resource)
    return changes


def _existing(aws: Clients, resource: Resource) -> list[Change]:
    """Its deletion, if it exists."""
    if KINDS[resource.kind].read(aws, resource.name) is None:
        return []
    return [Change("delete", resource, details=_contents(aws, resource))]


def _sizes(aws: Clients, name: str, but: Collection[str] = ()) -> list[Change]:
    """The functions of other sizes, which go with their logs. Those that a plan knows of may not be all: it may have
    been broken off; so they are looked for by name and tag."""
    found = []
    for page in aws["lambda"].get_paginator("list_functions").paginate():
        for function in (one["FunctionName"] for one in page["Functions"]):
            if function in but or not re.fullmatch(rf"{re.escape(name)}-\d+x", function):
                continue
            now = KINDS["AWS::Lambda::Function"].read(aws, function)
            if now is not None and now["Tags"].get(TAG) == name:
                found += _existing(aws, Resource(log_group(function), "AWS::Logs::LogGroup", log_group(function), {}))
                found.append(Change("delete", Resource(function, "AWS::Lambda::Function", function, {})))
    return found


def _queues(aws: Clients, name: str) -> list[Change]:
    """Those of dead letters and of single runs. The names of another deployment may begin alike; its tags differ."""
    found = []
    for page in aws["sqs"].get_paginator("list_queues").paginate(QueueNamePrefix=f"{name}-"):
        for url in page.get("QueueUrls", ()):
            queue = url.rpartition("/")[2]
            now = KINDS["AWS::SQS::Queue"].read(aws, queue)
            if now is not None and now["Tags"].get(TAG) == name:
                found.append(Change("delete", Resource(queue, "AWS::SQS::Queue", queue, {})))
    return found


def _contents(aws: Clients, resource: Resource) -> tuple[str, ...]:
    """How much goes with a bucket, as far as one look tells."""
    if resource.kind != "AWS::S3::Bucket":
        return ()
    page = aws["s3"].list_objects_v2(Bucket=resource.name)
    count, more = page.get("KeyCount", 0), page.get("IsTruncated", False)
    return (f"objects in it: {'more than ' if more else ''}{count:,}",) if count else ()


# -- the secret by which client and function know each other --------------------------------------------


def _secret(deployment: Deployment, function: Mapping[str, Any] | None) -> str:
    """The one that the function has; else the one that was kept with its data; else a new one."""
    return _variables(function).get("FNMAP_SECRET") or _kept_secret(deployment) or secrets.token_hex(32)


def _variables(function: Mapping[str, Any] | None) -> Mapping[str, str]:
    found: Mapping[str, str] = (function or {}).get("Environment", {}).get("Variables", {})
    return found


def _secret_file(deployment: Deployment) -> Path:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return home / "fnmap" / f"{deployment.bucket}.secret"


def _kept_secret(deployment: Deployment) -> str | None:
    try:
        return _secret_file(deployment).read_text().strip() or None
    except FileNotFoundError:
        return None


def keep_secret(aws: Clients, name: str) -> Path | None:
    """Before a function goes whose data stay: without its secret they could be read, but not be trusted. The file,
    which only this user can read; the next deployment of that name takes it from there."""
    deployment = place_of(aws, name)
    with told():
        function = KINDS["AWS::Lambda::Function"].read(aws, name)
    secret = _variables(function).get("FNMAP_SECRET")
    if not secret:
        return None
    path = _secret_file(deployment)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(0o600)
        path.chmod(0o600)  # before there is anything in it
        path.write_text(secret)
    except OSError as error:
        raise DeployError(f"the secret of {name} cannot be kept: {error}; set XDG_CONFIG_HOME to a folder") from error
    return path
