"""The errors of Specola.

SpecolaError
├── FacilityError        the facility file is not usable; carries every complaint
├── StateError           the state directory is not ours, or from a newer release
└── PublicError          the only one whose text may reach a user
    ├── BadInput         400
    ├── Unauthenticated  401
    ├── Forbidden        403
    ├── NotFound         404
    ├── Conflict         409
    ├── TooMuch          422, more than a budget or limit allows
    └── Unavailable      503, another part of the facility does not answer

A public error has a *reason*: a short constant that is also a metric label.
It never repeats what the caller sent.
"""

from __future__ import annotations


class SpecolaError(Exception):
    """Anything that Specola itself finds wrong."""


class FacilityError(SpecolaError):
    """The facility file cannot be used; `complaints` are lines of the form `file:line: path: text`."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = complaints


class StateError(SpecolaError):
    """The state directory cannot be used by this release or by this account."""


class PublicError(SpecolaError):
    """An error that a user may read: what is wrong (`title`), and what to do (`detail`)."""

    status = 500
    reason = "internal"

    def __init__(self, title: str, detail: str = "", *, reason: str | None = None) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        if reason is not None:
            self.reason = reason


class BadInput(PublicError):
    """The request itself is wrong."""

    status = 400
    reason = "bad_input"


class Unauthenticated(PublicError):
    """Nobody we know is asking."""

    status = 401
    reason = "unauthenticated"


class Forbidden(PublicError):
    """Known, but without the right."""

    status = 403
    reason = "forbidden"


class NotFound(PublicError):
    """Not there, or not the caller's."""

    status = 404
    reason = "not_found"


class Conflict(PublicError):
    """Not possible in the present state."""

    status = 409
    reason = "conflict"


class TooMuch(PublicError):
    """More than a budget or a limit allows."""

    status = 422
    reason = "too_much"


class Unavailable(PublicError):
    """Another part of the facility does not answer at present."""

    status = 503
    reason = "unavailable"
