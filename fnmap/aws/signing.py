"""AWS Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html), and whose it is.

botocore's own takes several times as long, which counts where one process makes thousands of calls a second. It finds
the credentials, unless these are in the environment.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn
from urllib.parse import quote, urlsplit

from fnmap.errors import DeployError, NotPicklable
from fnmap.storage.aws_profile import endpoint_said, of_profile

_ALGORITHM = "AWS4-HMAC-SHA256"
NO_CREDENTIALS = (
    "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run"
    " `aws configure`; `fnmap doctor` looks at them"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks. `token` is that of a session, if it is one."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key!r}, ...)"  # a secret is not for tracebacks

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("Credentials cannot be sent anywhere: what is secret stays where it is")


Provider = Callable[[], Credentials]


def credentials() -> Provider:
    """Gives the credentials that hold now: of the environment, else whatever botocore finds, renewed as it expires."""
    if os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
        return _of_environment
    found = of_profile(lambda session: session.get_credentials(), DeployError)
    if found is None:
        raise DeployError(NO_CREDENTIALS)

    def frozen() -> Credentials:
        now = found.get_frozen_credentials()
        return Credentials(now.access_key, now.secret_key, now.token)

    return frozen


def region() -> str:
    """The region that this process works in. Raises DeployError if nothing says so."""
    said = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    said = said or of_profile(lambda session: session.get_config_variable("region"), DeployError)
    if not said:
        raise DeployError("no AWS region is given: set AWS_REGION, or run `aws configure set region eu-west-1`")
    return str(said)


def endpoint(service: str, region: str) -> str:
    """Where a service is: at AWS, unless the usual variables say otherwise."""
    return (
        endpoint_said(service) or f"https://{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    )


def sign(
    who: Credentials, service: str, region: str, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> dict[str, str]:
    """The headers with those that sign the request. All of `headers` are signed: lower case names, no spaces around
    values. The URL has no query, and its path is quoted already."""
    return signed_at(time.gmtime(), who, service, region, method, url, headers, body)


def signed_at(
    when: time.struct_time,
    who: Credentials,
    service: str,
    region: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
) -> dict[str, str]:
    """As `sign`, at that time."""
    parts = urlsplit(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", when)
    signed = {**headers, "host": parts.netloc, "x-amz-date": stamp}
    if who.token:
        signed["x-amz-security-token"] = who.token
    names = sorted(signed)
    listed = ";".join(names)
    canonical = "\n".join(
        [method, quote(parts.path, safe="/-_.~") or "/", "", *(f"{name}:{signed[name]}" for name in names), "", listed,
         hashlib.sha256(body).hexdigest()]
    )  # fmt: skip
    day = stamp[:8]
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(_key(who.secret_key, day, region, service), text.encode(), "sha256").hex()
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={who.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
    )
    return signed


@lru_cache(maxsize=16)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _of_environment() -> Credentials:
    env = os.environ
    return Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN") or None)
