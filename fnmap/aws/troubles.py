"""What AWS says when it does not do what it was asked, in words that end with what mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fnmap.errors import DeployError

_CREDENTIALS = "run `aws configure` or `aws sso login`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REGION = "set AWS_REGION, or give --region"
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_UNKNOWN_KEY = frozenset(
    {"InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
)


@contextmanager
def told() -> Iterator[None]:
    """Turn errors of botocore into DeployError."""
    from botocore.exceptions import BotoCoreError, ClientError, WaiterError

    try:
        yield
    except WaiterError as error:
        raise DeployError(f"{error}; look at it in the console, then run the command again") from error
    except (ClientError, BotoCoreError) as error:
        what, mend = explain(error)
        raise DeployError(f"{what}; {mend}") from error


def code_of(error: Any) -> str:
    """AWS's own name for an error of a request; its HTTP status where it gives none."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def maybe(call: Any, *absent: str, **arguments: Any) -> Any:
    """The answer to the call; {} if the error is one of these codes, which mean that there is no such thing."""
    from botocore.exceptions import ClientError

    try:
        return call(**arguments)
    except ClientError as error:
        if code_of(error) not in absent:
            raise
        return {}


def explain(error: Exception) -> tuple[str, str]:
    """What is wrong, and what mends it."""
    kind, code, said = type(error).__name__, code_of(error), _first_line(error)
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "SSOTokenLoadError"):
        return "there are no AWS credentials here", _CREDENTIALS
    if kind == "ProfileNotFound":
        return said, "set AWS_PROFILE to one that `aws configure list-profiles` shows"
    if kind in ("UnauthorizedSSOTokenError", "TokenRetrievalError") or code in _EXPIRED:
        return "the AWS credentials have expired", "run `aws sso login`, or get new keys"
    if kind in ("NoRegionError", "InvalidRegionError"):
        return "no AWS region is set" if kind == "NoRegionError" else said, _REGION
    if kind in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError"):
        return said, "look at the network, AWS_REGION, and AWS_ENDPOINT_URL if it is set"
    if code in _UNKNOWN_KEY:
        return f"AWS does not know these credentials ({code})", _CREDENTIALS
    if code in _DENIED:
        return f"no permission for {_action(error)}: {said}", "`fnmap deploy --policy` prints what to ask for"
    return said, "see `fnmap doctor`"


def _action(error: Any) -> str:
    """What was forbidden, as policies name it where AWS says so."""
    named = re.search(r"perform: (\S+)", str(error))
    return named[1] if named else str(getattr(error, "operation_name", "that"))


def _first_line(error: Exception) -> str:
    text = getattr(error, "response", {}).get("Error", {}).get("Message") or str(error)
    return str(text).strip().rstrip(".").partition("\n")[0]
