"""Errors on the wire: RFC 9457 problem documents.

`title` says what is wrong, `detail` what to do, `reason` is a constant that programs and metrics
use. Nothing that the caller sent is repeated, and only `PublicError` carries text of its own.
"""

from __future__ import annotations

from pydantic import BaseModel, Field, ValidationError

from specola.core.errors import BadInput, PublicError

CONTENT_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What every error of the API looks like."""

    type: str = Field(description="`about:blank`, or a page about this reason")
    title: str = Field(description="what is wrong, in one line")
    status: int = Field(description="the HTTP status")
    detail: str = Field(default="", description="what to do about it")
    reason: str = Field(description="a constant for programs")
    request_id: str = Field(description="to be quoted when asking for help; in every log line")


class MethodNotAllowed(PublicError):
    """The path is there, the method is not."""

    status = 405
    reason = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__("This cannot be done here", "The header Allow says what can be done.")
        self.allowed = allowed


class TooLarge(PublicError):
    """The body is larger than anything the API takes."""

    status = 413
    reason = "too_large"


class Broken(PublicError):
    """A fault of ours; the text says nothing about it, the log does."""

    status = 500
    reason = "internal"


def broken() -> Broken:
    """What is shown in place of an unexpected exception."""
    return Broken("Something went wrong here", "Tell the operators the request id; the log says more.")


def problem(error: PublicError, request_id: str) -> Problem:
    """The document for an error."""
    return Problem(
        type="about:blank",
        title=error.title,
        status=error.status,
        detail=error.detail,
        reason=error.reason,
        request_id=request_id,
    )


def bad_body(error: ValidationError) -> BadInput:
    """Where a body is wrong and why, without what it held.

    An unknown key is not named: it is input.
    """
    lines = []
    for entry in error.errors(include_input=False, include_url=False, include_context=False)[:5]:
        unknown = entry["type"] == "extra_forbidden"
        where = ".".join(str(part) for part in entry["loc"][: -1 if unknown else None]) or "the body"
        if entry["type"] == "value_error":
            text = "the value is not allowed"
        else:
            text = "has a key that is not known" if unknown else entry["msg"]
        lines.append(f"{where}: {text}")
    return BadInput("The request cannot be understood", "; ".join(lines))
