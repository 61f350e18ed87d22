"""What travels to the function and back: JSON with the call or answer in it, and its seal (HMAC-SHA256 with the
deployment's secret). Nothing is unpickled before its seal was checked, on either side.

An answer is sealed together with the tag of its call, which no other call has, so that it answers that call alone.
"""

from __future__ import annotations

import hmac
import json
import struct
from base64 import b64decode, b64encode
from functools import lru_cache
from typing import Any

from fnmap.errors import NotAuthentic

CALL, ANSWER, REACH = b"call\0", b"answer\0", b"reach\0"
Event = dict[str, Any]
_LENGTH = struct.Struct("<I")


def seal(secret: bytes, purpose: bytes, body: bytes) -> str:
    """The seal of a body."""
    mac = _keyed(secret).copy()
    mac.update(purpose + body)
    return mac.hexdigest()


@lru_cache(maxsize=8)
def _keyed(secret: bytes) -> hmac.HMAC:
    """To take a key in costs as much as to seal a short message with it."""
    return hmac.new(secret, digestmod="sha256")


def sealed(secret: bytes, purpose: bytes, body: bytes) -> bytes:
    """The body in JSON, with its seal."""
    return b'{"fnmap":"%b","seal":"%b"}' % (b64encode(body), seal(secret, purpose, body).encode())


def opened(secret: bytes, purpose: bytes, event: Any) -> bytes:
    """The body of what was sealed. Raises NotAuthentic."""
    try:
        body, said = b64decode(event["fnmap"], validate=True), str(event["seal"])
    except (TypeError, KeyError, ValueError):
        raise NotAuthentic(f"this is no message of fnmap: {str(event)[:80]}") from None
    if not hmac.compare_digest(seal(secret, purpose, body).encode(), said.encode()):
        raise NotAuthentic("a message has a seal of another secret: function and client are not of one deployment")
    return body


def answers(tag: str) -> bytes:
    """The purpose of an answer to the call with that tag."""
    return ANSWER + tag.encode() + b"\0"


def packed(head: Any, body: bytes | bytearray = b"") -> bytes:
    """Something that JSON can say, and bytes, as one body."""
    text = json.dumps(head).encode()
    return b"".join((_LENGTH.pack(len(text)), text, body))


def unpacked(whole: bytes) -> tuple[Any, bytearray]:
    """What was packed. The bytes may be written to, as payloads want."""
    (length,) = _LENGTH.unpack_from(whole)
    end = _LENGTH.size + length
    return json.loads(whole[_LENGTH.size : end]), bytearray(memoryview(whole)[end:])
