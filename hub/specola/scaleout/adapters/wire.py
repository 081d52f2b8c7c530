"""What travels between gateway, schedulers and API service, checked where it arrives."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specola.core.errors import BadInput, Conflict, Forbidden, NotFound, PublicError, TooMuch, Unavailable
from specola.scaleout.cluster import Adaptive

REASON_HEADER = "X-Specola-Reason"
KINDS: dict[str, type[PublicError]] = {
    kind.__name__: kind for kind in (BadInput, Conflict, Forbidden, NotFound, TooMuch, Unavailable)
}


class Report(BaseModel):
    """What our scheduler adds to a heartbeat; it runs the user's code, so it may send anything."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    adaptive: Adaptive | None = None
    idle_since: float | None = None
    ending: str = Field(default="", max_length=200)


class Heartbeat(BaseModel):
    """dask-gateway's own part of a heartbeat."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    scheduler_address: str = Field(max_length=200)
    api_address: str = Field(max_length=200)
    count: int = Field(ge=0)
    active_workers: list[str]
    closing_workers: list[str]
    closed_workers: list[str]


def pinned(address: str, scheme: str) -> str:
    """Only the port of an address that a user's scheduler reports: the host is this machine's loopback.

    The gateway sends requests to it and its proxy opens connections to it.
    """
    try:
        port = urlsplit(address).port
    except ValueError:
        port = None
    if not port:
        raise BadInput("The scheduler's address has no port")
    return f"{scheme}://127.0.0.1:{port}"


def read_range(message: dict[str, Any]) -> tuple[int, int | None]:
    """Minimum and maximum of a request to adapt, which upstream passes on unchecked."""
    least, most = message.get("minimum") or 0, message.get("maximum")
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in (least, most or 0)):
        raise BadInput("Minimum and maximum must be numbers of workers")
    return least, most


def read_heartbeat(message: object) -> tuple[dict[str, Any], Report]:
    """A heartbeat with its addresses pinned, and our report in it (an empty one when it is malformed)."""
    try:
        beat = Heartbeat.model_validate(message)
    except ValidationError:
        raise BadInput("This is not a heartbeat") from None
    checked = beat.model_dump() | {
        "scheduler_address": pinned(beat.scheduler_address, "tls"),
        "api_address": pinned(beat.api_address, "http"),
        "dashboard_address": "",
    }
    try:
        report = Report.model_validate(message.get("specola") or {}) if isinstance(message, dict) else Report()
    except ValidationError:
        report = Report()
    return checked, report


def refusal(error: PublicError) -> web.HTTPException:
    """A public error for stock clients, who show the text of a 422, with its kind for our own."""
    text = error.title.rstrip(".") + "."
    text = f"{text} {error.detail}" if error.detail else text
    headers = {REASON_HEADER: f"{type(error).__name__} {error.reason}"}
    return web.HTTPUnprocessableEntity(reason=text.replace("\n", " "), headers=headers)


def public_error(header: str, text: str) -> PublicError | None:
    """The error that `refusal` was made from; None when the answer is not one of ours."""
    kind, _, reason = header.partition(" ")
    title, separator, detail = text.partition(". ")
    return KINDS[kind](title.rstrip("."), detail if separator else "", reason=reason or None) if kind in KINDS else None
