"""The GPU routes of the fake facility: what a test puts in is answered, in the shapes of extension/openapi.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

SIZES = {"1g": ("1g.5gb", 4.75, 1), "2g": ("2g.10gb", 9.75, 2), "3g": ("3g.20gb", 19.5, 4)}
SIZES |= {"4g": ("4g.20gb", 19.5, 4), "7g": ("7g.40gb", 39.25, 8)}
MODEL = "A100-40GB"


def moment(minutes: float = 0) -> str:
    """A time on the wire, so many minutes from now."""
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def part(start: int, size: int, shape: str | None = None, state: str = "free", **more: Any) -> dict[str, Any]:
    """A slice or free room on a GPU."""
    return {"start": start, "size": size, "shape": shape, "state": state, "mine": False, "lease": None} | more


def gpu(index: int, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One GPU of the map; without parts it is free."""
    found = list(parts) or [part(0, 8)]
    known = {"id": f"GPU-{index}", "index": index, "slots": 8, "parts": found, "drained": False}
    return known | {"healthy": True, "reason": ""} | more


def pool(*gpus: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A pool of simulated A100s."""
    known = {"name": "a100", "model": MODEL, "actuator": "simulated", "simulated": True, "granularity": "instance"}
    known |= {"controls_placement": True, "available": True, "reason": "", "home": "shared", "queued": 0}
    shapes = []
    for shape, (profile, gib, slots) in SIZES.items():
        free = sum(p["size"] // slots for g in gpus if not g["drained"] for p in g["parts"] if p["state"] == "free")
        wait = None if free else {"low": 240, "high": 1140}
        sizes = {"shape": shape, "profile": profile, "gib": gib, "slots": slots}
        shapes.append(sizes | {"free": free, "total": len(gpus) * (8 // slots), "wait": wait})
    return known | {"gpus": list(gpus), "shapes": shapes} | more


def choice(shape: str = "3g", **more: Any) -> dict[str, Any]:
    """One way to get a size."""
    profile, gib, slots = SIZES[shape]
    known = {"pool": "a100", "shape": shape, "profile": profile, "gib": gib, "slots": slots, "free": 1, "wait": None}
    return known | {"text": f"{profile}: {gib:g} GB can be used"} | more


def wish(**more: Any) -> dict[str, Any]:
    """A request in the queue."""
    known = {"id": "w1", "state": "queued", "group": "cms", "wants": [choice()], "gib": 20.0, "minutes": 120}
    known |= {"on_grant": "hold", "notebook": None, "server": False, "created": moment(-6), "position": 1}
    why = "Your group holds 5 of its 7 slots; an idle slice may be taken back at 15:09."
    return known | {"wait": {"low": 240, "high": 1140}, "reason": why, "lease": None} | more


def lease(**more: Any) -> dict[str, Any]:
    """A slice in use by a kernel."""
    known: dict[str, Any] = {"id": "l1", "request": "w0", "state": "active", "outcome": None, "pool": "a100"}
    known |= {"model": MODEL, "simulated": True, "shape": "3g", "profile": "3g.20gb", "gib": 19.5, "slots": 4}
    known |= {"gpu": "GPU-0", "start": 0, "device": "MIG-1111", "group": "cms", "token": 3, "on_grant": "hold"}
    known |= {"notebook": None, "server": None, "kernel": None, "reason": "", "granted": moment(-20)}
    known |= {"active": moment(-18), "expires": moment(102), "ends_at": None, "cause": None, "longest": moment(460)}
    known |= {"idle_since": None, "signal": "gpu", "checkpoint": True, "reclaimable": True, "saved": None}
    return known | {"activity": activity()} | more


def activity(points: int = 40) -> list[dict[str, Any]]:
    """An hour of ups and downs."""
    return [
        {"at": moment(-points + n), "engine": 0.9 if n % 13 < 8 else 0.04, "memory": 9 * 1024**3} for n in range(points)
    ]


def saved(**more: Any) -> dict[str, Any]:
    """What of a kernel was saved."""
    failed = [{"name": "stream", "why": "cannot pickle '_io.TextIOWrapper' object"}]
    known = {"at": moment(-2), "names": ["model", "history", "epoch"], "failed": failed, "hooks": 1}
    return known | {"size": 731_234} | more


@dataclass
class FakeGpus:
    """The state; `asked` is what was sent."""

    pools: list[dict[str, Any]] = field(default_factory=list)
    wishes: list[dict[str, Any]] = field(default_factory=list)
    leases: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def clear(self) -> None:
        """A facility without GPUs, and nothing asked."""
        for kept in (self.pools, self.wishes, self.leases, self.asked):
            kept.clear()

    def get(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        """What a GET answers; None for no such address."""
        if path == "gpu/offers":
            known = {"group": "cms", "used_slots": 4, "max_slots": 7, "guaranteed_slots": 2, "longest_minutes": 480}
            return {"at": moment(), "pools": self.pools, "allowances": [known] if self.pools else [], "hold": 900}
        if path == "gpu/advice":
            return self.advice(float(query["gib"]))
        kept = {"gpu/requests": self.wishes, "gpu/leases": self.leases}
        for address, items in kept.items():
            if path == address:
                return {"items": items}
            if path.startswith(f"{address}/"):
                return next((one for one in items if one["id"] == path.split("/")[2]), None)
        return None

    def advice(self, gib: float) -> dict[str, Any]:
        """The smallest shape that people call so."""
        shape = next(name for name, size in SIZES.items() if int(size[0].split(".")[1][:-2]) >= gib)
        free = 0 if shape == "3g" else 1
        found = choice(shape, free=free)
        bigger = [choice("4g", text="4g.20gb, 19.5 GiB: four eighths of one A100-40GB")] if not free else []
        wait = "It is free now." if free else "It is taken; the wait is 4 to 19 minutes."
        text = f"{found['text']}. {wait} The next size up takes 2 times as much of a GPU."
        return {"choice": found, "alternatives": bigger, "text": text}

    def change(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """What a change answers."""
        self.asked.append((method, path, body))
        parts = path.split("/")
        if path == "gpu/requests":
            made = wish(id=f"w{len(self.asked)}", minutes=body["minutes"], created=moment())
            self.wishes.append(made)
            return made
        kept = self.wishes if parts[1] == "requests" else self.leases
        one = next((one for one in kept if one["id"] == parts[2]), None)
        if one is None:
            return None
        if method == "DELETE":
            one |= {"state": "cancelled"} if kept is self.wishes else {"state": "ended", "outcome": "released"}
        elif parts[-1] == "renew":
            one |= {"state": "active", "expires": moment(102 + body["minutes"]), "ends_at": None, "cause": None}
        found: dict[str, Any] = json.loads(json.dumps(one))
        return found
