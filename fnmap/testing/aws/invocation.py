"""What goes into an environment and what comes out of it."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass

from fnmap.testing.aws.functions import Config


@dataclass(slots=True)
class Invocation:
    """One event for one environment."""

    request_id: str
    event: bytes
    client_context: str | None = None
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an invocation: an answer, or an error in the JSON that the real service makes of it."""

    payload: bytes
    failed: bool = False
    log: bytes = b""


def error_json(kind: str, message: str) -> bytes:
    """An error that the service, not the runtime, reports."""
    return json.dumps({"errorType": kind, "errorMessage": message}, separators=(",", ":")).encode()


def exit_json(request_id: str, status: int, kind: str = "Runtime.ExitError") -> bytes:
    """The error of a process that ended by itself or by a signal (a negative status)."""
    if status < 0:
        number = signal.Signals(-status)
        name = {signal.SIGSEGV: "segmentation fault", signal.SIGABRT: "aborted"}.get(number)
        reason = f"exited with error: signal: {name or (signal.strsignal(number) or number.name).lower()}"
    else:
        reason = f"exited with error: exit status {status}" if status else "exited without providing a reason"
    return error_json(kind, f"RequestId: {request_id} Error: Runtime {reason}")


def timeout_json(request_id: str, seconds: float) -> bytes:
    """The error of a function that ran over its time."""
    return error_json("Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds")


def size_json(limit: int) -> bytes:
    """The error of an answer of too many bytes."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return error_json("Function.ResponseSizeTooLarge", message)


def framed(
    invocation: Invocation,
    config: Config,
    said: bytes,
    took_s: float,
    *,
    init_s: float | None,
    peak_mb: int | None = None,
) -> bytes:
    """What the function said, between the lines that the service writes around it."""
    request = f"RequestId: {invocation.request_id}"
    report = f"REPORT {request}\tDuration: {took_s * 1e3:.2f} ms\tBilled Duration: {int(took_s * 1e3) + 1} ms\t"
    report += f"Memory Size: {config.memory_mb} MB\t"
    report += "" if peak_mb is None else f"Max Memory Used: {peak_mb} MB\t"
    report += "" if init_s is None else f"Init Duration: {init_s * 1e3:.2f} ms\t"
    end = b"" if said.endswith(b"\n") or not said else b"\n"
    return b"START %b Version: $LATEST\n%b%bEND %b\n%b\n" % (
        request.encode(),
        said,
        end,
        request.encode(),
        report.encode(),
    )
