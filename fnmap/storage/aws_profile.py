"""Which AWS and whose account: what the variables say, and what botocore knows of profiles and roles."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fnmap.errors import FnmapError, UsageError


def endpoint_said(service: str) -> str | None:
    """Where the usual variables say that a service is, if not at AWS."""
    said = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
    return checked_endpoint(said) if said else None


def checked_endpoint(url: str) -> str:
    """The URL, or UsageError: the clients themselves would panic, or look for a host of another name."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"an endpoint of AWS must be a URL such as 'http://localhost:9000'; got {url!r}")
    return url


def of_profile(ask: Callable[[Any], Any], wrong: type[FnmapError]) -> Any:
    """The answer of a session of botocore; None where that is not installed. Raises `wrong` for a profile that cannot
    be used."""
    try:
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped, unused-ignore]
        from botocore.session import Session  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return None
    try:
        return ask(Session())
    except BotoCoreError as error:
        raise wrong(f"the AWS profile cannot be used: {error}; `aws configure list` shows it") from error
