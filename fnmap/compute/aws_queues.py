"""The queues that reports of detached calls come through: one for each client, which says from time to time that it
listens, so that whoever collects knows those of clients that are gone.

A queue whose client has said nothing for over a day is not waited at any more: what was sent to it is deleted by then,
and no event is so old. Should its client only have slept, it takes the calls that are out for lost, and finds their
results where they were committed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fnmap.aws.deployment import TAG
from fnmap.aws.requests import Refused, Service
from fnmap.errors import DeployError

HEARD = "fnmap:heard"
"""The tag that says when the client of a queue was last heard of, in seconds since 1970."""
BEAT_S = 3600.0
KEPT_S = 86_400  # that a report stays in a queue; longer than an event stays in Lambda's

log = logging.getLogger(__name__)


def make_queue(sqs: Service, function: str) -> str:
    """A new queue for a client of this function: its URL."""
    try:
        made = sqs.call(
            "AmazonSQS.CreateQueue",
            QueueName=f"{_prefix(function)}{os.urandom(6).hex()}",
            Attributes={"MessageRetentionPeriod": str(KEPT_S)},
            tags={TAG: function, **heard_now()},  # by the first, `fnmap destroy` knows it
        )
    except Refused as error:
        raise DeployError(
            f"no queue for the reports of detached calls can be made ({error}): `fnmap deploy --policy` prints what"
            ' you need; mode="direct" needs none'
        ) from error
    return str(made["QueueUrl"])


def heard_now() -> dict[str, str]:
    """The tag of a queue whose client is there."""
    return {HEARD: str(int(time.time()))}


def collect_queues(function: str, older_s: float, *, dry_run: bool) -> list[str]:
    """Delete the queues of the function's clients that were last heard of so long ago, and over a day; their names."""
    sqs, before, gone = Service("sqs"), time.time() - max(older_s, KEPT_S), list[str]()
    try:
        for url in _urls(sqs, function):
            with _still_there():
                tags = sqs.call("AmazonSQS.ListQueueTags", QueueUrl=url).get("Tags") or {}
                if tags.get(TAG) == function and float(tags.get(HEARD, "inf")) < before:
                    if not dry_run:
                        sqs.call("AmazonSQS.DeleteQueue", QueueUrl=url)
                    gone.append(url.rpartition("/")[2])
    except Refused as error:
        log.warning(
            "queues of clients that are gone may be left: %s; `fnmap deploy --policy` prints what it takes", error
        )
    finally:
        sqs.close()
    return gone


@contextmanager
def _still_there() -> Iterator[None]:
    """A queue is listed for a minute after it was deleted, by its client or by another that collects."""
    try:
        yield
    except Refused as error:
        if not any(word in f"{error.code} {error}" for word in ("NonExistentQueue", "QueueDoesNotExist")):
            raise


def _urls(sqs: Service, function: str) -> Iterator[str]:
    asked: dict[str, Any] = {"QueueNamePrefix": _prefix(function), "MaxResults": 1000}
    while True:
        found = sqs.call("AmazonSQS.ListQueues", **asked)
        yield from found.get("QueueUrls") or ()
        if not (token := found.get("NextToken")):
            return
        asked["NextToken"] = token


def _prefix(function: str) -> str:
    return f"{function}-answers-"
