"""What botocore knows of the AWS account to use: profiles, single sign-on, the role of a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fnmap.errors import FnmapError


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
