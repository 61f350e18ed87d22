"""How the service says no: with the types, words and status codes of the real one."""

from __future__ import annotations

import json


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, kind: str, message: str, *, reason: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.reason, self.retry_after_s = (
            status,
            kind,
            message,
            reason,
            retry_after_s,
        )

    def body(self) -> bytes:
        """The JSON of the answer."""
        fields = {"Type": "User", "message": self.message, "Message": self.message}
        if self.reason:
            fields["Reason"] = self.reason
        return json.dumps(fields).encode()


def not_found(arn: str) -> Refused:
    """There is no such function."""
    return Refused(404, "ResourceNotFoundException", f"Function not found: {arn}")


def invalid(message: str) -> Refused:
    """A parameter that cannot be."""
    return Refused(400, "InvalidParameterValueException", message)


def constraint(value: object, name: str, rule: str) -> Refused:
    """A parameter outside its bounds."""
    text = f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must {rule}"
    return Refused(400, "ValidationException", text)


def too_large(message: str) -> Refused:
    """A request of too many bytes. On the wire it is not called RequestTooLargeException, as documented."""
    return Refused(413, "RequestEntityTooLargeException", message)


def throttled(reason: str) -> Refused:
    """No environment may be had now."""
    return Refused(429, "TooManyRequestsException", "Rate Exceeded.", reason=reason, retry_after_s=1)
