"""What a deployment is: a few numbers, and the resources that they come to, as records in CloudFormation's words.

These records are the one source: `deploy` compares them with what exists, `template` prints them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fnmap.aws import policies
from fnmap.errors import UsageError

HANDLER = "fnmap.compute.aws_handler.handle"
TAG = "fnmap:deployment"
TMP = "tmp/"
"""Objects of the bucket under this prefix expire."""
PACKAGES_LIMIT = 2048  # of the 4 KB that all variables of a function may take
MEMORY_LEAST_MB, MEMORY_MOST_MB = 128, 10240
LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)

Kind = Literal[
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
    "AWS::Logs::LogGroup",
    "AWS::IAM::Role",
    "AWS::Lambda::Function",
    "AWS::Lambda::EventInvokeConfig",
]


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that AWS keeps. `after`: ids of those that must be there before it."""

    id: str
    kind: Kind
    name: str
    properties: Mapping[str, Any]
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """One function with its bucket, role, queue and logs, in one region of one account. `sizes`: functions besides it,
    with so many times its memory."""

    account: str
    region: str
    partition: str = "aws"
    name: str = "fnmap"
    python: str = "3.11"
    arch: str = "x86_64"
    memory_mb: int = 1769  # one whole processor
    sizes: tuple[int, ...] = ()
    timeout_s: int = 900
    disk_mb: int = 512
    concurrency: int | None = None  # None: what the account has
    requirements: tuple[str, ...] = ()
    log_days: int = 30
    tmp_days: int = 7
    metrics: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,33}[a-z0-9]", self.name):
            raise UsageError(f"name must be 2 to 35 of a-z, 0-9 and -, as bucket names are; got {self.name!r}")
        if self.log_days not in LOG_DAYS:
            raise UsageError(f"log_days must be one of {', '.join(map(str, LOG_DAYS))}; got {self.log_days}")
        for option, low, high in _RANGES:
            value = getattr(self, option)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{option} must be in {low}..{high}; got {value}")
        if _OF_A_SIZE.search(self.name):
            raise UsageError(f"name must not end as the functions of --sizes do; got {self.name!r}")
        check_sizes(self.sizes, self.memory_mb)
        if bad := [key for key in self.tags if not key or key == TAG or key.lower().startswith("aws:")]:
            raise UsageError(f"a tag must have a name, and none of AWS's own (aws:) or fnmap's ({TAG}); got {bad[0]!r}")

    @property
    def bucket(self) -> str:
        return f"{self.name}-{self.account}-{self.region}"

    @property
    def role(self) -> str:
        return f"{self.name}-{self.region}"

    @property
    def queue(self) -> str:
        return f"{self.name}-dead"

    @property
    def log_group(self) -> str:
        return log_group(self.name)

    @property
    def functions(self) -> dict[int, str]:
        """The names of its functions, by how many times the memory of the first they have."""
        return {times: function_of(self.name, times) for times in (1, *self.sizes)}

    def arn(self, service: str, rest: str) -> str:
        """The name of something of this deployment, in full."""
        region, account = ("", "") if service == "s3" else ("" if service == "iam" else self.region, self.account)
        return f"arn:{self.partition}:{service}:{region}:{account}:{rest}"


def function_of(name: str, times: int) -> str:
    """The name of the function with so many times the memory."""
    return name if times == 1 else f"{name}-{times}x"


def log_group(function: str) -> str:
    """Where Lambda writes what a function says."""
    return f"/aws/lambda/{function}"


def check_sizes(sizes: tuple[int, ...], memory_mb: int) -> None:
    """Raise UsageError for sizes that Lambda cannot have."""
    if list(sizes) != sorted(set(sizes)) or any(times < 2 for times in sizes):
        raise UsageError(f"--sizes must be whole numbers of 2 or more, each once and in order; got {list(sizes)}")
    if sizes and (most_mb := sizes[-1] * memory_mb) > MEMORY_MOST_MB:
        fits, less_mb = MEMORY_MOST_MB // memory_mb, MEMORY_MOST_MB // sizes[-1]
        mend = [f"--sizes up to {fits}"] * (fits > 1) + [f"--memory {less_mb}"] * (less_mb >= MEMORY_LEAST_MB)
        raise UsageError(
            f"--sizes {sizes[-1]} with --memory {memory_mb} comes to {most_mb:,} MB, and Lambda gives a function"
            f" {MEMORY_MOST_MB:,} at most: give {', or '.join([*mend, '--sizes none'])}"
        )


_OF_A_SIZE = re.compile(r"-\d+x$")
_RANGES = (
    ("memory_mb", MEMORY_LEAST_MB, MEMORY_MOST_MB),
    ("timeout_s", 1, 900),
    ("disk_mb", 512, 10240),
    ("concurrency", 1, 10**6),
    ("tmp_days", 1, 3650),
)


def resources(deployment: Deployment, code: Mapping[str, str], variables: Mapping[str, str]) -> list[Resource]:
    """All of a deployment, in the order in which it is made."""
    d, tags = deployment, {TAG: deployment.name, **deployment.tags}
    found = [_bucket(d, tags), _queue(d, tags), *(_log_group(d, tags, times) for times in d.functions), _role(d, tags)]
    for times in (*d.sizes, 1):  # the first says which others there are, so it comes last
        found += [_function(d, tags, times, code, variables), _events(d, times)]
    return found


def variables_of(deployment: Deployment, *, secret: str, code: str, versions: Mapping[str, str]) -> dict[str, str]:
    """What the function finds in its environment, and the client in the function's configuration."""
    return {
        "FNMAP_CODE": code,
        "FNMAP_METRICS": "1" if deployment.metrics else "0",
        "FNMAP_PACKAGES": _packages(versions),
        "FNMAP_SECRET": secret,
        "FNMAP_SIZES": " ".join(map(str, deployment.functions)),
        "FNMAP_STORE": f"s3://{deployment.bucket}",
    }


def _packages(versions: Mapping[str, str]) -> str:
    first = ("numpy", "pyarrow", "cloudpickle", "obstore")
    names = [*(n for n in first if n in versions), *sorted(n for n in versions if n not in first)]
    text = " ".join(f"{name}={versions[name]}" for name in names)
    return text if len(text) <= PACKAGES_LIMIT else text[:PACKAGES_LIMIT].rpartition(" ")[0]


def _bucket(d: Deployment, tags: Mapping[str, str]) -> Resource:
    properties = {
        "BucketName": d.bucket,
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "LifecycleConfiguration": {
            "Rules": [
                {"Id": "fnmap-tmp", "Status": "Enabled", "Prefix": TMP, "ExpirationInDays": d.tmp_days},
                {
                    "Id": "fnmap-uploads",
                    "Status": "Enabled",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                },
            ]
        },
        "Tags": tags,
    }
    return Resource("Bucket", "AWS::S3::Bucket", d.bucket, properties)


def _queue(d: Deployment, tags: Mapping[str, str]) -> Resource:
    days_14 = 14 * 86400
    properties = {
        "QueueName": d.queue,
        "MessageRetentionPeriod": days_14,
        "SqsManagedSseEnabled": True,
        "Tags": tags,
    }
    return Resource("DeadLetters", "AWS::SQS::Queue", d.queue, properties)


def _log_group(d: Deployment, tags: Mapping[str, str], times: int) -> Resource:
    name = log_group(d.functions[times])
    properties = {"LogGroupName": name, "RetentionInDays": d.log_days, "Tags": tags}
    return Resource(f"Logs{_suffix(times)}", "AWS::Logs::LogGroup", name, properties)


def _role(d: Deployment, tags: Mapping[str, str]) -> Resource:
    properties = {
        "RoleName": d.role,
        "AssumeRolePolicyDocument": policies.trust(),
        "Policies": [{"PolicyName": "fnmap", "PolicyDocument": policies.function(d)}],
        "Tags": tags,
    }
    return Resource("Role", "AWS::IAM::Role", d.role, properties)


def _function(
    d: Deployment, tags: Mapping[str, str], times: int, code: Mapping[str, str], env: Mapping[str, str]
) -> Resource:
    name, suffix = d.functions[times], _suffix(times)
    properties = {
        "FunctionName": name,
        "Runtime": f"python{d.python}",
        "Architectures": [d.arch],
        "Handler": HANDLER,
        "Role": d.arn("iam", f"role/{d.role}"),
        "Code": code,
        "MemorySize": times * d.memory_mb,
        "Timeout": d.timeout_s,
        "EphemeralStorage": {"Size": d.disk_mb},
        "Environment": {"Variables": env},
        "Tags": tags,
    }
    if d.concurrency is not None:
        properties["ReservedConcurrentExecutions"] = d.concurrency
    return Resource(f"Function{suffix}", "AWS::Lambda::Function", name, properties, after=("Role", f"Logs{suffix}"))


def _events(d: Deployment, times: int) -> Resource:
    name, suffix = d.functions[times], _suffix(times)
    properties = {
        "FunctionName": name,
        "Qualifier": "$LATEST",
        "MaximumRetryAttempts": 0,  # fnmap tries again itself, and knows what it tries
        "DestinationConfig": {"OnFailure": {"Destination": d.arn("sqs", d.queue)}},
    }
    after = (f"Function{suffix}", "DeadLetters")
    return Resource(f"Events{suffix}", "AWS::Lambda::EventInvokeConfig", name, properties, after)


def _suffix(times: int) -> str:
    """What tells the resources of one size from those of another."""
    return "" if times == 1 else f"{times}x"
