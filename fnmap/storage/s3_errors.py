"""What an error of S3 means to a user of a store, and the command that mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from fnmap.errors import (
    FnmapError,
    MissingKey,
    NoAccess,
    NoBucket,
    NoCredentials,
    StoreBusy,
    StoreError,
    StoreReadOnly,
    StoreThrottled,
)

Doing = Literal["read", "list", "write", "delete"]
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_REGION = re.compile(r"<Region>([^<]+)</Region>|expecting '([a-z0-9-]+)'")
_THROTTLED = ("SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException", "ServiceUnavailable")
_UNKNOWN = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "TokenRefreshRequired")
_ON_THE_WAY = (
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "IncompleteBody",
    "RequestTimeout",
    "InvalidDigest",
    "MalformedXML",
)
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_ALLOWS = {"read": "s3:GetObject and s3:ListBucket", "list": "s3:ListBucket", "write": "s3:PutObject"}


class Conflict(StoreBusy):
    """Another write of the same key was under way (409): who has won is not known, and asking again tells."""


@contextmanager
def explained(doing: Doing, bucket: str, region: str, key: str) -> Iterator[None]:
    """Turn an error of the client in the block into the error of the tree that it means."""
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except AlreadyExistsError as error:
        if status(error) == 409:
            raise Conflict(f"cannot {doing} {key!r} in s3://{bucket}: {_brief(error)}") from None
        raise
    except (BaseError, OSError, ValueError) as error:
        raise meaning(error, doing, bucket, region, key) from None


def status(error: Exception) -> int:
    """The HTTP status of an answer that the client took for an error; 0 where there was none."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def meaning(error: Exception, doing: Doing, bucket: str, region: str, key: str) -> FnmapError:
    """The error of our tree."""
    number, text = status(error), str(error)
    code = found[1] if (found := _CODE.search(text)) else ""
    what = f"cannot {doing} {key!r} in s3://{bucket}: {_brief(error)}"
    if code == "NoSuchBucket":
        return NoBucket(f"{what}; make it with `aws s3 mb s3://{bucket}`, or `fnmap deploy`")
    if number == 404 or isinstance(error, FileNotFoundError):
        return MissingKey(f"no object {key!r} in s3://{bucket}")
    if number in (301, 307) or code in _ELSEWHERE or "without LOCATION" in text:
        there = next(filter(None, named.groups()), "") if (named := _REGION.search(text)) else ""
        say = f"set AWS_REGION={there}" if there else f"`aws s3api get-bucket-location --bucket {bucket}` tells which"
        return NoBucket(f"{what}; the bucket is not in the region {region}: {say}")
    if number in (429, 500, 502, 503, 504) or code in _THROTTLED or "Timeout" in text:
        return StoreThrottled(what)
    if number in (401, 403) or "Expired" in code:
        return _denied(code, doing, bucket, what)
    if number in (0, 408, 409, 412) or number > 500 or code in _ON_THE_WAY:  # 0: reset, refused, cut off
        return StoreBusy(what)
    return StoreError(f"{what}; `fnmap doctor` looks for the cause")


def _denied(code: str, doing: Doing, bucket: str, what: str) -> FnmapError:
    if code in _UNKNOWN:
        return NoCredentials(f"{what}; `aws sts get-caller-identity` shows whose credentials these are, `fnmap doctor`")
    if "Expired" in code:
        return NoCredentials(f"{what}; renew them, with `aws sso login` or where they came from")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"{what}; set the clock of this machine")
    say = f"allow {_ALLOWS.get(doing, 's3:DeleteObject')} on s3://{bucket}; `fnmap doctor` shows what is missing"
    return StoreReadOnly(f"{what}; {say}") if doing in ("write", "delete") else NoAccess(f"{what}; {say}")


def _brief(error: Exception) -> str:
    """What is worth reading of the client's text: it repeats itself with all of its own innards."""
    text = str(error).partition("\n\nDebug source")[0]
    code, message = _CODE.search(text), _MESSAGE.search(text)
    if code:
        return f"{code[1]}: {message[1]}" if message and message[1] else code[1]
    return " ".join(text.rpartition(" - ")[2].split())[:300]
