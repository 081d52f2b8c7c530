"""Ask, wait, renew and give back from a notebook cell or a script; no dependency beyond the standard library."""

from __future__ import annotations

import json
import os
import sys
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from specola_lab._api import Api, GpuError
from specola_lab.gpu import said

__all__ = ["GpuError", "Offers", "Wish", "leases", "offers", "release", "renew", "request"]

DEFAULT_MINUTES = 60
LOOK_SECONDS = 1.0
LEASE = "SPECOLA_GPU_LEASE"
"""names the lease of the GPU kernel that this is"""


class ThroughServer(Api):
    """What a GPU kernel asks goes through its worker to its person's server, which has the token: none travels."""

    def __init__(self, channel: Any) -> None:
        self._error = GpuError
        self._channel = channel

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        try:
            said = self._channel.api(method, path, None if body is None else json.loads(body))
        except (OSError, RuntimeError, TimeoutError) as error:
            raise GpuError("Your server does not answer", f"{error} {GpuError.goes_on}; try again.".strip()) from None
        if said["status"] >= HTTPStatus.BAD_REQUEST:
            raise self._refusal(said["status"], json.dumps(said["body"]).encode(), "")
        return said["body"]


def _api() -> Api:
    kernel = getattr(sys.modules.get("specola_worker.kernel.state"), "current", None)
    return Api(GpuError) if kernel is None else ThroughServer(kernel)


def _minutes(hours: float | None, minutes: float | None, default: int) -> int:
    if hours is not None and minutes is not None:
        raise ValueError("give either hours or minutes")
    if hours is None and minutes is None:
        return default
    return round(60 * hours if hours is not None else minutes or 0)


class Offers(list[dict[str, Any]]):
    """Pools of GPUs with their shapes, as the facility describes them; prints as a table."""

    def __repr__(self) -> str:
        return "\n".join(said.pool(one) for one in self) or "This facility offers no GPU."


class Wish:
    """A request for a GPU, and the lease that comes of it; as the last line of a cell it shows itself, live."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.lease: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """Names the request."""
        return str(self.request["id"])

    @property
    def state(self) -> str:
        """That of the lease once there is one, else that of the request."""
        return str(self.lease["state"] if self.lease is not None else self.request["state"])

    @property
    def position(self) -> int | None:
        """Place in the queue; 1 is next, None when it waits no longer."""
        position: int | None = self.request["position"]
        return position

    @property
    def over(self) -> bool:
        """Nothing will change any more."""
        return self.state in {"ended", "cancelled", "failed"}

    def refresh(self) -> Wish:
        """Read anew how it stands."""
        api = _api()
        self.request = api.get(f"gpu/requests/{quote(self.id, safe='')}")
        lease = self.request["lease"] or (self.lease or {}).get("id")
        if self.request["state"] in {"queued", "cancelled", "failed"}:
            self.lease = None
        elif lease:
            self.lease = api.get(f"gpu/leases/{quote(lease, safe='')}")
        return self

    def wait(self, seconds: float | None = None) -> dict[str, Any]:
        """Block until it is granted; the lease. GpuError when it comes to nothing, TimeoutError after `seconds`."""
        end = None if seconds is None else time.monotonic() + seconds
        while self.refresh().lease is None or self.state == "making":
            if self.over:
                raise GpuError(f"This request was {self.state}", self.request["reason"])
            if end is not None and time.monotonic() > end:
                raise TimeoutError(str(self))
            time.sleep(LOOK_SECONDS)
        return dict(self.lease or {})

    def cancel(self) -> None:
        """Wait no longer; a slice that was granted is given back."""
        if self.refresh().lease is not None:
            self.release()
        else:
            _api().delete(f"gpu/requests/{quote(self.id, safe='')}")
            self.refresh()

    def renew(self, hours: float | None = None, minutes: float | None = None) -> None:
        """More time: as much again as was asked for, unless it is said how much."""
        self._held()
        renew(self.lease, minutes=_minutes(hours, minutes, self.request["minutes"]))
        self.refresh()

    def keep(self) -> None:
        """Say that the slice is needed although it is idle: it is not taken back now, and lasts a minute longer."""
        self.renew(minutes=1)

    def release(self) -> None:
        """Give the slice back; its kernel is saved first."""
        self._held()
        release(self.lease)
        self.refresh()

    def _held(self) -> None:
        if self.refresh().lease is None:
            raise GpuError("This request has no GPU yet", said.wish(self.request))

    def __repr__(self) -> str:
        now = said.wish(self.request) if self.lease is None else said.lease(self.lease)
        return f"<GPU request: {now}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Live where anywidget is there; else, and wherever widgets do not work, in words."""
        from specola_lab.gpu import widget

        return widget.bundle(self)


def request(
    gib: float | None = None,
    *,
    hours: float | None = None,
    minutes: float | None = None,
    shape: str | None = None,
    pool: str | None = None,
    alternatives: tuple[str, ...] = (),
    on_grant: str = "hold",
    notebook: str | None = None,
    group: str | None = None,
) -> Wish:
    """Ask for `gib` of GPU memory for so long (an hour unless said); it waits in the facility's fair queue.

    `on_grant` says what happens when the GPU is there: `hold` keeps it for you for a while, `kernel` starts a GPU
    kernel, `notebook` runs the one at `notebook` (a path in the home) to its end. `shape` instead of `gib` names a
    slice (`3g`), `alternatives` other shapes that would do. GpuError says why it can never be had, and what could be.
    """
    wanted: dict[str, Any] = {"minutes": _minutes(hours, minutes, DEFAULT_MINUTES), "on_grant": on_grant}
    given = {"gib": gib, "shape": shape, "pool": pool, "notebook": notebook, "group": group}
    wanted |= {name: value for name, value in given.items() if value is not None}
    if alternatives:
        wanted["alternatives"] = list(alternatives)
    return Wish(_api().post("gpu/requests", wanted)).refresh()


def offers() -> Offers:
    """What is free, pool by pool."""
    return Offers(_api().get("gpu/offers")["pools"])


def leases() -> list[dict[str, Any]]:
    """The slices that you hold, newest first."""
    found = [one for one in _api().get("gpu/leases")["items"] if one["state"] != "ended"]
    return sorted(found, key=lambda one: str(one["granted"]), reverse=True)


def _which(lease: dict[str, Any] | str | None) -> dict[str, Any]:
    """A lease with its newest token: the one that is meant, that of this GPU kernel, or the newest that is held."""
    name = lease["id"] if isinstance(lease, dict) else lease or os.environ.get(LEASE)
    if name:
        found: dict[str, Any] = _api().get(f"gpu/leases/{quote(name, safe='')}")
        return found
    held = leases()
    if not held:
        raise GpuError("You hold no GPU", "Ask for one with gpu.request(gib=16, hours=2) or in the panel.")
    return held[0]


def renew(
    lease: dict[str, Any] | str | None = None, *, hours: float | None = None, minutes: float | None = None
) -> dict[str, Any]:
    """More time for a lease (the newest unless said), an hour unless said; the lease as it is then."""
    held = _which(lease)
    body = {"token": held["token"], "minutes": _minutes(hours, minutes, DEFAULT_MINUTES)}
    found: dict[str, Any] = _api().post(f"gpu/leases/{quote(held['id'], safe='')}/renew", body)
    return found


def release(lease: dict[str, Any] | str | None = None) -> None:
    """Give a lease back (the newest unless said); its kernel is saved first, then ended."""
    held = _which(lease)
    _api().delete(f"gpu/leases/{quote(held['id'], safe='')}?token={held['token']}")
