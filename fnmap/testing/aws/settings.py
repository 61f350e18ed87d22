"""Every limit of the local Lambda service, with the figures of the real one; tests shrink them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REQUEST_BYTES = 6_291_456  # of a synchronous event
RESPONSE_BYTES = 6_291_556  # of an answer: 100 bytes more
EVENT_BYTES = 1_048_576  # of an asynchronous event
UPLOAD_BYTES = 70_167_211  # of a request with a zip in base64: 50 MB of zip
UNZIPPED_BYTES = 262_144_000
ENVIRONMENT_BYTES = 4096  # of all variables of a function
TAIL_BYTES = 4096  # of the log in an answer


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the service behaves. The defaults are those of a new account."""

    region: str = "us-east-1"
    account: str = "123456789012"
    extra_env: Mapping[str, str] = field(default_factory=dict)
    """What every environment gets besides its own variables; also where the service itself finds S3 and SQS."""

    concurrency: int = 1000
    """Environments that may be busy at once in the account."""
    unreserved_minimum: int = 100
    """What reservations must leave to functions without one."""
    ramp: int = 1000
    ramp_s: float = 10.0
    """A function may start so many environments at once, and as many again in so many seconds."""
    code_storage_bytes: int = 75 * 1024**3

    init_s: float = 10.0
    idle_s: float = 300.0
    """Environments that were idle for so long end."""
    cold_s: float = 0.0
    """So much is added to the start of an environment."""
    freeze: bool = False
    """Stop the processes of idle environments, as the real service does."""
    isolated: bool = True
    """Processes see the zip, the standard library, awslambdaric and boto3, as in the real service; else also all
    packages of this interpreter, after those of the zip."""
    memory_poll_s: float = 0.05

    delay_scale: float = 1.0
    """What a second of the asynchronous queue (delays, the age of events) takes here."""
    lose: float = 0.0
    duplicate: float = 0.0
    seed: int = 0
    """Chances of an asynchronous event, and what decides them."""

    light: Callable[[Any, Any], Any] | str | None = None
    """The handler of all functions, or its dotted name: environments are then objects in this process."""
    threads: int = 64
    """For a light handler that is no coroutine function: so many run at once, the others wait."""
    root: Path = Path()
    """Where code is unpacked and environments have their temporary folders; the service chooses it."""

    def arn(self, name: str) -> str:
        """The name that the whole world knows a function by."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{name}"
