"""Requests and leases in words, for the text that a cell prints and for the widget."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

MINUTE = 60
HOUR = 3600


def size(one: dict[str, Any]) -> str:
    """`20 GB`: what `3g.20gb` is called, though a little less can be used."""
    name = re.search(r"(\d+)gb", one["profile"], re.IGNORECASE)
    return f"{name[1] if name else round(one['gib'])} GB"


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    seconds = max(0, round(seconds))
    if seconds < MINUTE:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // MINUTE, MINUTE)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def wait(found: dict[str, Any] | None) -> str:
    """A range as people say it."""
    if found is None or (found["high"] is None and found["low"] < MINUTE):
        return "nobody can say how long"
    if found["high"] is None:
        return f"at least {span(found['low'])}"
    if found["high"] < MINUTE:
        return "less than a minute"
    return f"{span(found['low'])} to {span(found['high'])}"


def seconds(at: str | None) -> float | None:
    """A time on the wire as seconds since 1970."""
    return None if at is None else datetime.fromisoformat(at).timestamp()


def clock(at: str) -> str:
    """The time of day, here."""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M")


def wished(request: dict[str, Any]) -> str:
    """`20 GB for 2 h`."""
    much = size(request["wants"][0]) if request["wants"] else f"{request['gib']:g} GB"
    return f"{much} for {span(MINUTE * request['minutes'])}"


def wish(request: dict[str, Any]) -> str:
    """A request in a line."""
    if request["state"] != "queued":
        return f"{wished(request)}, {request['state']}. {request['reason']}".strip()
    place = f"position {request['position']}" if request["position"] else "in the queue"
    return f"{wished(request)}, {place}, {wait(request['wait'])}. {request['reason']}".strip()


def what(lease: dict[str, Any]) -> str:
    """`20 GB on A100-40GB`, and whether that is invented."""
    return f"{size(lease)} on {lease['model']}{' (simulated)' if lease['simulated'] else ''}"


def end(lease: dict[str, Any]) -> float | None:
    """When it ends, as far as that is known."""
    return seconds(lease["ends_at"] or lease["expires"])


CAUSES = {
    "reclaimed": "Somebody waits and it is idle: it is taken back at {at}.",
    "drained": "The GPU is taken out of service: it ends at {at}.",
    "term": "It ends at {at}.",
    "released": "It was given back.",
}
OUTCOMES = {"reclaimed": "taken back while idle", "expired": "its time was over", "lapsed": "nobody took it in time"}


def doing(lease: dict[str, Any]) -> str:
    """What happens with it now, in a sentence or two."""
    state, until = lease["state"], lease["ends_at"] or lease["expires"]
    if state == "offered":
        return f'Yours until {clock(until)}: choose the kernel "Python 3 (GPU)".' if until else "Yours."
    if state == "expiring":
        return CAUSES.get(lease["cause"], CAUSES["term"]).format(at=clock(until))
    if state == "active":
        idle = seconds(lease["idle_since"])
        return "In use." if idle is None else f"Idle for {span(time.time() - idle)}."
    if state == "ended":
        return f"Ended: {OUTCOMES.get(lease['outcome'], lease['outcome'])}. {lease['reason']}".strip()
    words = {"making": "It is being made.", "starting": "It starts.", "saving": "Its kernel is being saved."}
    return str(lease["reason"] or words.get(state, "It is being given back."))


def lease(held: dict[str, Any]) -> str:
    """A lease in a line."""
    left = end(held)
    time_left = (
        f", {span(left - time.time())} left" if left and held["state"] in {"active", "offered", "expiring"} else ""
    )
    return f"{what(held)}, {held['state']}{time_left}. {doing(held)}"


def pool(found: dict[str, Any]) -> str:
    """A pool and its sizes as a small table."""
    label = f"{found['name']}{', simulated' if found['simulated'] else ''}"
    lines = [f"{found['model']} ({label})" + ("" if found["available"] else f": {found['reason']}")]
    for shape in found["shapes"] if found["available"] else ():
        free = f"{shape['free']} of {shape['total']} free"
        if not shape["free"] and shape["wait"]:
            free = f"none of {shape['total']} free, {wait(shape['wait'])}"
        lines.append(f"  {shape['profile']:<12} {shape['gib']:6.2f} GiB   {free}")
    return "\n".join(lines)
