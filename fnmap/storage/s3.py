"""A store in a bucket of Amazon S3, or of any server that speaks its language."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from fnmap.errors import NotAuthentic, UsageError
from fnmap.storage.aws_profile import checked_endpoint, endpoint_said
from fnmap.storage.base import Buffer
from fnmap.storage.checks import check_key, check_keys, check_prefix, flat
from fnmap.storage.pace import Pace
from fnmap.storage.retrying import Retrying
from fnmap.storage.s3_client import Place, check_encryption, region_of_environment
from fnmap.storage.s3_objects import Objects, new_name

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BATCH = 1000  # keys that one request deletes
TRIES = 10
SECRET = "FNMAP_SECRET"


class S3Store:
    """Keeps the object `key` at `prefix/key` of a bucket.

    Endpoint, region and credentials are those of the usual AWS variables and profiles unless said here. `sse`:
    "AES256", "aws:kms", or "aws:kms:" and a key id. Each object carries a checksum, which `get` compares. With a
    `secret` it carries a seal too, and `get` raises NotAuthentic for an object that was not sealed, for its key, with
    that secret; without one, for an object that is sealed at all. A pickled copy has neither credentials nor secret:
    it takes those of its process, the secret from FNMAP_SECRET (hex). What fails for the moment is tried `tries` times
    in all, ever later, and with fewer requests a second while S3 asks for that.
    """

    at_once = 32  # requests at a time: each waits for the network, and S3 has many disks
    by_name = True  # nothing of the user's is in it, so a plain pickle does

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        sse: str | None = None,
        secret: bytes | None = None,
        timeout_s: float = 30.0,
        tries: int = TRIES,
    ) -> None:
        if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
            raise UsageError(f"bucket must be the name of one, such as 'my-bucket' of 's3://my-bucket'; got {bucket!r}")
        prefix = prefix.strip("/")
        place = Place(
            bucket,
            check_key(prefix, "prefix") if prefix else "",
            checked_endpoint(endpoint) if endpoint else endpoint_said("s3"),
            region or region_of_environment(),
            check_encryption(sse),
            timeout_s,
        )
        self._begin(place, secret, secret is not None, tries)

    def _begin(self, place: Place, secret: bytes | None, sealed: bool, tries: int) -> None:
        self.place, self._secret, self._sealed, self.tries = place, secret, sealed, tries
        self._again: Retrying | None = None

    def get(self, key: str) -> bytes:
        """The whole object. Raises MissingKey; NotAuthentic unless its seal is of the store's secret, or neither is."""
        check_key(key)
        objects = self._objects()
        return self._retrying().persist(lambda: objects.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Some of the object: all of these bytes must be there. What is not read whole has no checksum to compare; in
        a store with a secret it is read whole."""
        check_key(key)
        if self._sealed:
            return self.get(key)[start : start + length]
        objects = self._objects()
        return self._retrying().persist(lambda: objects.get_range(key, start, length))

    def size(self, key: str) -> int:
        """The bytes of the object."""
        check_key(key)
        objects = self._objects()
        return self._retrying().persist(lambda: objects.size(key))

    def put(self, key: str, body: Buffer) -> None:
        """Write the object whole or not at all, replacing what was there; a large one in parts, several at a time."""
        check_key(key)
        objects, whole = self._objects(), flat(body)
        self._retrying().persist(lambda: objects.put(key, whole))

    def create(self, key: str, body: Buffer) -> bool:
        """Write the object exclusively: False, and nothing changed, if the key exists."""
        check_key(key)
        objects, whole, name = self._objects(), flat(body), new_name()
        return self._retrying().settle(lambda: objects.create(key, whole, name), lambda: objects.by(key) == name)

    def list(self, prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`, in no particular order."""
        check_prefix(prefix)
        objects = self._objects()
        return iter(self._retrying().persist(lambda: list(objects.list(prefix))))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these keys, a thousand with each request; one that does not exist is not an error."""
        gone, objects = list(dict.fromkeys(check_keys(keys))), self._objects()
        for first in range(0, len(gone), _BATCH):
            some = gone[first : first + _BATCH]
            self._retrying().persist(lambda some=some: objects.delete(some))  # type: ignore[misc]

    def url(self, key: str) -> str:
        """The object as s3://bucket/key, for others who have credentials of their own."""
        return f"s3://{self.place.bucket}/{self.place.path(check_key(key))}"

    def sealed_with(self, secret: bytes) -> S3Store:
        """The same store, which seals what it writes and demands the seal of what it reads."""
        if not isinstance(secret, bytes) or len(secret) < 16:
            raise UsageError("secret must be bytes, at least 16 of them, such as os.urandom(32)")
        sealed = object.__new__(S3Store)
        sealed._begin(self.place, secret, True, self.tries)
        return sealed

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy, (self.place, self._sealed, self.tries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Store) and (self.place, self._sealed) == (other.place, other._sealed)

    def __hash__(self) -> int:
        return hash(self.place)

    def __repr__(self) -> str:
        where = f", endpoint={self.place.endpoint!r}" if self.place.endpoint else ""
        return f"S3Store({self.place.bucket!r}, {self.place.prefix!r}{where}, region={self.place.region!r})"

    def _objects(self) -> Objects:
        if self._sealed and self._secret is None:
            self._secret = _secret_of_environment(self)
        return Objects(self.place, self._secret)

    def _retrying(self) -> Retrying:
        if self._again is None:
            self._again = Retrying(self, tries=self.tries, pace=_pace(self.place.bucket, self.place.endpoint))
        return self._again


@lru_cache(maxsize=64)
def _pace(bucket: str, endpoint: str | None) -> Pace:
    """All stores of this process on one bucket share its pace."""
    del bucket, endpoint
    return Pace()


def _copy(place: Place, sealed: bool, tries: int) -> S3Store:
    store = object.__new__(S3Store)
    store._begin(place, None, sealed, tries)
    return store


def _secret_of_environment(store: S3Store) -> bytes:
    try:
        secret = bytes.fromhex(os.environ.get(SECRET, ""))
    except ValueError:
        secret = b""
    if not secret:
        raise NotAuthentic(
            f"the objects of {store!r} are sealed, and this process has no secret: set {SECRET} to that of the"
            " deployment (hex); functions that `fnmap deploy` made have it"
        )
    return secret


def from_url(rest: str) -> S3Store:
    """The store of "s3://" and this rest: a bucket and perhaps a prefix."""
    bucket, _, prefix = rest.partition("/")
    return S3Store(bucket, prefix)
