"""The objects of an S3 bucket: one try of each verb, with what is checked of every object.

Each carries the crc32 of its body, and in a store with a secret a MAC of its key and body: who may write to the bucket,
and has no secret, cannot make a reader load what he wrote.
"""

from __future__ import annotations

import hmac
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from fnmap.errors import MissingKey, NotAuthentic, StoreBusy, UsageError
from fnmap.storage.s3_client import Place, Use, client
from fnmap.storage.s3_errors import Doing, explained

if TYPE_CHECKING:
    from obstore.store import S3Store as Client

LARGE_BYTES = 8 << 20  # more comes in several requests at a time
PART_BYTES = 5 << 20  # more is put in parts, several at a time: the least that S3 takes, but for the last
MOST_BYTES = 5 << 30  # of one request; a create is one, and so is the copy of it that is read back
_MOST_PARTS = 10_000
PIECE_BYTES = 256 << 10
_TOGETHER = 8  # requests at a time for one large object
CRC, MAC, BY = "fnmap-crc", "fnmap-mac", "fnmap-by"
Body = bytes | memoryview


@dataclass(frozen=True)
class Objects:
    """One try of each verb. Raises StoreBusy where another may help."""

    place: Place
    secret: bytes | None

    def get(self, key: str) -> bytes:
        import obstore

        store, path = self._client("small"), self.place.path(key)
        with self._explained("read", key):
            found = obstore.get(store, path)
            size = found.meta["size"]
            body, crc = _streamed(found) if size <= LARGE_BYTES else self._by_ranges(store, path, size)
        self._check(key, body, crc, found.attributes)
        return body

    def get_range(self, key: str, start: int, length: int) -> bytes:
        import obstore

        store = self._client("small")
        with self._explained("read", key):
            return bytes(obstore.get_range(store, self.place.path(key), start=start, length=length))

    def size(self, key: str) -> int:
        import obstore

        store = self._client("small")
        with self._explained("read", key):
            return int(obstore.head(store, self.place.path(key))["size"])

    def put(self, key: str, body: Body) -> None:
        import obstore

        store, path, carries = self._client("small"), self.place.path(key), self._carries(key, body)
        chunk = max(PART_BYTES, -(-len(body) // _MOST_PARTS))
        parts = len(body) > PART_BYTES
        with self._explained("write", key):
            obstore.put(
                store, path, body, attributes=carries, use_multipart=parts, chunk_size=chunk, max_concurrency=_TOGETHER
            )

    def create(self, key: str, body: Body, by: str) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        if len(body) > MOST_BYTES:
            raise UsageError(
                f"S3 creates objects of at most 5 GB; {key!r} has {len(body) / 1e9:.1f} GB: make it smaller"
            )
        store = self._client("small" if len(body) <= LARGE_BYTES else "large")
        carries = self._carries(key, body) | {BY: by}
        with self._explained("write", key):
            try:
                obstore.put(store, self.place.path(key), body, attributes=carries, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if "status code: 412" not in str(error):
                    raise
                return False
        return True

    def by(self, key: str) -> str | None:
        """Which `create` made the object that is there; None if there is none."""
        import obstore

        store = self._client("small")
        try:
            with self._explained("read", key):
                found = obstore.get(store, self.place.path(key), options={"head": True}).attributes
        except MissingKey:
            return None
        return str(found.get(BY, ""))

    def list(self, prefix: str) -> Iterator[str]:
        import obstore

        folder = prefix.rpartition("/")[0]  # the client lists folders; what is more than that is filtered here
        above = self.place.path(folder) if folder else self.place.prefix
        store, cut = self._client("pages"), len(self.place.path(""))
        with self._explained("list", prefix):
            for page in obstore.list(store, above or None):
                for found in page:
                    key = found["path"][cut:]
                    if key.startswith(prefix):
                        yield key

    def delete(self, keys: Sequence[str]) -> None:
        import obstore

        store = self._client("small")
        with self._explained("delete", keys[0] if keys else ""):
            obstore.delete(store, [self.place.path(key) for key in keys])

    # -- inside --------------------------------------------------------------------------------------

    def _client(self, use: Use) -> Client:
        return client(self.place, use)

    def _explained(self, doing: Doing, key: str) -> Any:
        return explained(doing, self.place.bucket, self.place.region, self.place.path(key))

    def _by_ranges(self, store: Client, path: str, size: int) -> tuple[bytes, int]:
        import obstore

        def read(start: int) -> Any:
            return obstore.get_range(store, path, start=start, length=min(LARGE_BYTES, size - start))

        with ThreadPoolExecutor(_TOGETHER, thread_name_prefix="fnmap-s3") as pool:
            body = b"".join(pool.map(read, range(0, size, LARGE_BYTES)))
        return body, crc32(body)

    def _carries(self, key: str, body: Body) -> dict[str, str]:
        """What is written beside the body."""
        carries = {CRC: f"{crc32(body):08x}"}
        if self.secret is not None:
            carries[MAC] = self._mac(self.secret, key, body)
        return carries

    def _check(self, key: str, body: bytes, crc: int, carries: Mapping[Any, str]) -> None:
        if CRC in carries and carries[CRC] != f"{crc:08x}":
            raise StoreBusy(
                f"{key!r} in s3://{self.place.bucket} does not fit its checksum: damaged on the way, or there"
            )
        self._check_seal(key, body, carries.get(MAC, ""))

    def _check_seal(self, key: str, body: Body, mac: str) -> None:
        what = f"{key!r} in s3://{self.place.bucket}"
        if self.secret is None and mac:  # who cannot check it shall not unpickle it, nor write beside it without a seal
            raise NotAuthentic(
                f'{what} is sealed, and this store has no secret: a deployment\'s runs are read with on="lambda", or'
                " `fnmap ... --deployment NAME`; others with `store.sealed_with(secret)`"
            )
        if self.secret is not None and not hmac.compare_digest(mac, self._mac(self.secret, key, body)):
            raise NotAuthentic(
                f"{what} {'does not fit its seal' if mac else 'has no seal'}: somebody without the secret of this"
                " deployment wrote it, or the secret is another; delete the object, or run `fnmap deploy` if the secret"
                " was changed"
            )

    @staticmethod
    def _mac(secret: bytes, key: str, body: Body) -> str:
        mac = hmac.new(secret, key.encode() + b"\0", "sha256")
        mac.update(body)
        return mac.hexdigest()


def _streamed(found: Any) -> tuple[bytes, int]:
    """The body of an answer and its checksum. Of a large one each piece is summed up while it is in the cache, and its
    memory is used again for the next: fresh memory for two copies of 8 MB takes as long as to receive them."""
    if found.meta["size"] <= 4 * PIECE_BYTES:
        body = bytes(found.bytes())
        return body, crc32(body)
    out, crc = io.BytesIO(), 0
    for piece in found.stream(min_chunk_size=PIECE_BYTES):
        out.write(piece)
        crc = crc32(piece, crc)
    return out.getvalue(), crc


def new_name() -> str:
    """A name for one `create`, which no other has."""
    return os.urandom(12).hex()
