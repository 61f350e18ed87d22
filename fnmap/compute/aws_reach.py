"""May the function use the store that a run needs? It is asked to try, before anything of the run is sent.

Once for each bucket: a run that needs no store asks for nothing, and neither does one of a bucket that is known.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import threading
from contextlib import suppress
from typing import Any

from fnmap.aws import envelope
from fnmap.aws.configuration import Configuration
from fnmap.aws.requests import Refused, Service, function_path
from fnmap.errors import (
    DeployError,
    NoAccess,
    NoCredentials,
    NotAuthentic,
    StoreError,
    StoreReadOnly,
    store_error,
)
from fnmap.storage.base import Store

REACH = "reach"
_FORBIDDEN = (NoAccess, NoCredentials, StoreReadOnly)
_VERBS = ("DeleteObject", "GetObject", "PutObject")

log = logging.getLogger(__name__)


class Reach:
    """What a deployed function may use, as far as it was asked."""

    def __init__(self, service: Service, there: Configuration) -> None:
        self._service, self._there = service, there
        self._known, self._lock = set[str](), threading.Lock()  # buckets that were asked about

    def check(self, store: Any) -> None:
        """Raise DeployError, which says what is denied and what mends it, if the function cannot write to the store
        and read what it wrote."""
        bucket = store.url("x").split("/")[2]
        with self._lock:
            if bucket in self._known:
                return
            tag = os.urandom(8).hex()
            store.put(_ours(tag), b"?")  # what is wrong with the bucket, or with our own rights, is said here
            try:
                trouble = self._ask(store, tag)
            except (Refused, NotAuthentic, ValueError) as error:  # the first call says what that is about
                log.debug("the function cannot be asked: %s", error)
                trouble = None
            finally:
                with suppress(StoreError):  # what lies there goes by itself
                    store.delete([_ours(tag), _theirs(tag)])
            if trouble is not None:
                denied = store_error(*trouble)
                raise DeployError(self._explained(denied, bucket)) from denied
            self._known.add(bucket)

    def _ask(self, store: Store, tag: str) -> tuple[str, str] | None:
        """Have the function try it: None, or the name of an error and what it says."""
        secret = self._there.secret
        event = envelope.sealed(secret, envelope.REACH, envelope.packed(tag, pickle.dumps(store)))
        path = function_path(self._there.name, "/invocations")
        body = b'{"%b":%b}' % (REACH.encode(), event)
        said = json.loads(self._service.ask("POST", path, body, {"content-type": "application/json"}))
        trouble, _ = envelope.unpacked(envelope.opened(secret, envelope.answers(tag), said))
        return trouble and (trouble[0], trouble[1])

    def _explained(self, error: StoreError, bucket: str) -> str:
        there, role = self._there, self._there.role.rpartition("/")[2]
        said = str(error).rpartition("; ")[0]  # but for what the function would do about it
        what = f"the function {there.name!r} cannot use s3://{bucket} with its role {role!r}: {said}"
        if bucket == there.store.split("/")[2]:
            return f"{what}: run `{there.deploy}`, which gives the role what it needs"
        policy = json.dumps(_policy(bucket), separators=(",", ":"))
        more = f"--role-name {role} --policy-name fnmap-{bucket} --policy-document '{policy}'"
        return f"{what}: run `aws iam put-role-policy {more}`"


def answer(secret: bytes, tag: str, pickled: bytearray) -> Any:
    """What the function says when it was asked; `pickled` is the store, and its seal was checked."""
    trouble = tried(pickle.loads(pickled), tag)
    return json.loads(envelope.sealed(secret, envelope.answers(tag), envelope.packed(trouble)))


def tried(store: Store, tag: str) -> tuple[str, str] | None:
    """Do what calls do: read what the client wrote, and write. Only what is forbidden counts: the client has just used
    the store, and whatever else fails may pass."""
    try:
        store.get(_ours(tag))
        store.create(_theirs(tag), b"!")
    except _FORBIDDEN as error:
        return type(error).__name__, str(error)
    except StoreError:
        return None
    return None


def _ours(tag: str) -> str:
    return f"tmp/reach/{tag}"


def _theirs(tag: str) -> str:
    return f"tmp/reach/{tag}.back"


def _policy(bucket: str) -> dict[str, Any]:
    may = [
        {"Effect": "Allow", "Action": [f"s3:{verb}" for verb in _VERBS], "Resource": f"arn:aws:s3:::{bucket}/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
    ]
    return {"Version": "2012-10-17", "Statement": may}
