"""Where the objects of an S3 store are, and a client of obstore for them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from fnmap.errors import NoCredentials, UsageError
from fnmap.storage.aws_profile import of_profile

if TYPE_CHECKING:
    from obstore.store import S3Store as Client

Use = Literal["small", "large", "pages"]
LARGE_S = 900.0  # for one request with the body of a large object
_PAGE_TRIES = 4  # of each page of a list, so that no failure throws away the pages before it
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
_ROLES = (  # where the client finds credentials that are renewed by itself
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, and how to reach it. It has no credentials: those are the process's own."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    sse: str | None
    timeout_s: float

    def path(self, key: str) -> str:
        """The key of the bucket for a key of the store."""
        return f"{self.prefix}/{key}" if self.prefix else key


def region_of_environment() -> str:
    """The region that the process works in."""
    said = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return said or of_profile(lambda session: session.get_config_variable("region"), NoCredentials) or "us-east-1"


def client(place: Place, use: Use) -> Client:
    """A client of the place, of which all stores of this process share one."""
    return _client(place, use, tuple(map(os.environ.get, _KEYS)))


@lru_cache(maxsize=32)
def _client(place: Place, use: Use, keys: tuple[str | None, ...]) -> Client:
    try:
        from obstore.store import S3Store as Client
    except ImportError as error:
        raise UsageError("a store on S3 needs the package obstore: pip install 'fnmap[aws]'") from error
    retry: Any = {"max_retries": _PAGE_TRIES - 1 if use == "pages" else 0}
    retry["backoff"] = {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=2), "base": 2}
    seconds = LARGE_S if use == "large" else place.timeout_s
    options: Any = {
        "allow_http": (place.endpoint or "").startswith("http://"),
        "connect_timeout": timedelta(seconds=min(5.0, seconds)),
        "read_timeout": timedelta(seconds=place.timeout_s),  # of a body that stalls
        "timeout": timedelta(seconds=seconds),
        "default_content_type": "application/octet-stream",
    }
    # The server compares each body with the checksum that travels with it. Where TLS guards the way, the signature
    # need not cover the body too, and a digest that would cost more than all else is spared.
    by_tls = not (place.endpoint or "").startswith("http://")
    checked = {"conditional_put": "etag", "checksum_algorithm": _checksum(), "unsigned_payload": by_tls}
    config: Any = {"region": place.region, **checked, **_encryption(place.sse)}
    if place.endpoint:  # both names: the environment's service endpoint would win over the other
        config |= {"endpoint": place.endpoint, "aws_endpoint_url_s3": place.endpoint}
    return Client(place.bucket, config=config, client_options=options, retry_config=retry, **_credentials(keys))


def _checksum() -> str:
    """Which checksum travels with a body: that which S3 makes by itself, unless the server does not know it."""
    said = os.environ.get("AWS_CHECKSUM_ALGORITHM") or "CRC64NVME"
    if said.upper() not in ("CRC64NVME", "SHA256"):
        raise UsageError(f"AWS_CHECKSUM_ALGORITHM must be CRC64NVME, as it is if not set, or SHA256; got {said!r}")
    return said.upper()


def check_encryption(sse: str | None) -> str | None:
    """What `sse=` may be, or UsageError."""
    if sse is None or sse == "AES256" or sse == "aws:kms" or (isinstance(sse, str) and sse.startswith("aws:kms:")):
        return sse
    raise UsageError(f"sse must be 'AES256', 'aws:kms', or 'aws:kms:' and the id of a key; got {sse!r}")


def _encryption(sse: str | None) -> dict[str, Any]:
    if sse is None:
        return {}
    if sse == "AES256":
        return {"server_side_encryption": "AES256"}
    key = sse.removeprefix("aws:kms").removeprefix(":")
    named = {"sse_kms_key_id": key} if key else {}
    return {"server_side_encryption": "aws:kms", "sse_bucket_key_enabled": True, **named}


def _credentials(keys: tuple[str | None, ...]) -> dict[str, Any]:
    access, secret, token, _ = keys
    if access and secret:
        return {"access_key_id": access, "secret_access_key": secret, **({"session_token": token} if token else {})}
    if any(map(os.environ.get, _ROLES)) or os.environ.get("AWS_SKIP_SIGNATURE"):
        return {}
    found = of_profile(lambda session: session.get_credentials(), NoCredentials)
    if found is None:
        raise NoCredentials(
            "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run"
            " `aws configure`; `fnmap doctor` looks at them"
        )

    def provide() -> Any:
        frozen = found.get_frozen_credentials()
        until = getattr(found, "_expiry_time", None)  # of those that are renewed
        token = {"token": frozen.token} if frozen.token else {}
        return {
            "access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "expires_at": until, **token
        }  # fmt: skip

    provide()  # a profile that cannot be had says so here
    return {"credential_provider": provide}
