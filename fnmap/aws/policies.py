"""Who may do what: no more than what is needed, and only to what belongs to the deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnmap.aws.deployment import Deployment

Document = dict[str, Any]
PACKAGES = "deploy/"
"""Where in the bucket the function's own package lies: what it runs, it must not be able to change."""


def trust() -> Document:
    """Lambda may run functions in this role."""
    return _document(
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    )


def function(d: Deployment) -> Document:
    """What the function may do, of any size: its bucket but for its own package, its log group, the queues, itself."""
    bucket = d.arn("s3", d.bucket)
    return _document(
        *_bucket(d),
        {**_allow("", ["s3:*"], [f"{bucket}/{PACKAGES}*"]), "Sid": "NotItsOwnPackage", "Effect": "Deny"},
        _allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group}:*" for group in _log_groups(d)]),
        _allow("Tell", ["sqs:SendMessage"], [d.arn("sqs", f"{d.name}-*")]),
        _allow("FanOut", ["lambda:InvokeFunction"], _functions(d)),
    )


def user(d: Deployment) -> Document:
    """What whoever maps may do: call the function and read what became of it. Not deploy."""
    verbs = ["CreateQueue", "DeleteMessage", "DeleteQueue", "GetQueueAttributes", "GetQueueUrl", "ListQueueTags"]
    queues = [f"sqs:{verb}" for verb in [*verbs, "ReceiveMessage", "TagQueue"]]
    lambdas = ["GetFunctionConcurrency", "GetFunctionConfiguration", "InvokeFunction"]
    logs = [name for group in _log_groups(d) for name in (group, f"{group}:*")]
    return _document(
        *_bucket(d),
        _allow("Call", [f"lambda:{verb}" for verb in lambdas], _functions(d)),
        _allow("Hear", queues, [d.arn("sqs", f"{d.name}-*")]),
        _allow("ReadLogs", ["logs:FilterLogEvents", "logs:GetLogEvents"], logs),
        _allow("KnowLimits", ["lambda:GetAccountSettings"], ["*"]),
        _allow("FindQueues", ["sqs:ListQueues"], ["*"]),  # which SQS allows for all queues or none
    )


def _functions(d: Deployment) -> list[str]:
    return [d.arn("lambda", f"function:{name}") for name in d.functions.values()]


def _log_groups(d: Deployment) -> list[str]:
    return [d.arn("logs", f"log-group:/aws/lambda/{name}") for name in d.functions.values()]


def _bucket(d: Deployment) -> list[Document]:
    bucket = d.arn("s3", d.bucket)
    verbs = ["AbortMultipartUpload", "DeleteObject", "GetObject", "PutObject"]
    return [
        _allow("Objects", [f"s3:{verb}" for verb in verbs], [f"{bucket}/*"]),
        _allow("List", ["s3:ListBucket"], [bucket]),
    ]


def _allow(sid: str, actions: Sequence[str], on: Sequence[str]) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(on)}


def _document(*statements: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}
