"""`specola gpu`: what is free, my requests and leases; and for operators the other half, in `gpu_desk`."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from specola.cli import gpu_desk, gpu_layout
from specola.cli.asking import STATE, ask
from specola.cli.tables import AS_JSON, aligned, shown
from specola.client.api import Api
from specola.core.section import Seconds

LOOK_EVERY = 2.0
MINUTE = 60
LIVE = frozenset({"making", "offered", "starting", "active", "expiring", "saving", "ending"})
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(?:GB|GiB|G)?", re.IGNORECASE | re.ASCII)
Json = dict[str, Any]


def gib(text: str) -> float:
    """GPU memory as people say it: `20`, `20GB`, `"20 GiB"` are all the same wish."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise click.BadParameter("a size is a number of GB, as in `20`")
    return float(found[1])


def duration(text: str) -> int:
    """Whole minutes: `90 min`, `2 h`, `1 d`; a bare number is minutes."""
    try:
        seconds: int = TypeAdapter(Seconds).validate_python(f"{text} min" if text.isdecimal() else text)
    except ValidationError:
        raise click.BadParameter("a duration is a number of minutes, or has a unit: `90`, `2 h`, `1 d`") from None
    return max(1, round(seconds / MINUTE))


LONG = click.option("--for", "minutes", type=duration, default="1 h", show_default=True, help="For how long.")


@click.group()
def gpu() -> None:
    """GPUs: what is free, my requests and leases; the queue, plans and drains of an operator."""


for command in (gpu_desk.plan, gpu_layout.layout, gpu_desk.overview, gpu_desk.drain):
    gpu.add_command(command)


@gpu.command()
@STATE
@AS_JSON
def offers(state: Path | None, *, as_json: bool) -> None:
    """List the sizes that can be had, how many are free, and how long one more would wait."""
    shown(ask(state, lambda api: api.ask("GET", "gpu/offers")), offered, as_json=as_json)


def offered(found: Json) -> Iterator[str]:
    """Pools, sizes, and what one's groups may have."""
    if not found["pools"]:
        yield "There are no GPUs here."
    for pool in found["pools"]:
        yield f"{pool['name']}: {pool['model']} ({pool['actuator']}){trouble(pool)}"
        rows = [
            (f"  {one['gib']:g} GiB", one["shape"], one["profile"], f"{one['slots']:g}/8", *free_of(pool, one))
            for one in pool["shapes"]
        ]
        if rows:
            yield from aligned(("  size", "shape", "profile", "of a GPU", "free", "wait"), rows)
    for one in found["allowances"]:
        most = "all" if one["max_slots"] is None else f"{one['max_slots']:g}/8"
        yield (
            f"{one['group']} uses {one['used_slots']:g}/8 of {most}; guaranteed {one['guaranteed_slots']:g}/8; "
            f"a lease lasts at most {minutes_in_words(one['longest_minutes'])}"
        )


def label(thing: Mapping[str, Any]) -> str:
    """What is invented is called so wherever it shows."""
    return " (simulated)" if thing["simulated"] else ""


def trouble(pool: Json) -> str:
    """Why a pool cannot be used now."""
    return "" if pool["available"] else f": {pool['reason']}"


def free_of(pool: Json, shape: Json) -> tuple[str, str]:
    """How many are free and how long one more takes, as far as anybody can say."""
    if not pool["controls_placement"]:
        return "?", "the site decides"
    return f"{shape['free']} of {shape['total']}", wait(shape["wait"]) if shape["wait"] or not shape["free"] else "–"


def wait(found: Json | None) -> str:
    """A range in words."""
    if found is None:
        return "nobody can say"
    low = minutes_in_words(found["low"] // MINUTE)
    if found["high"] is None:
        return f"{low} or more"
    high = minutes_in_words(-(-found["high"] // MINUTE))
    return low if low == high else f"{low} to {high}"


def minutes_in_words(minutes: int) -> str:
    """`45 min`, `2 h`, `2 h 30 min`."""
    hours, rest = divmod(max(0, minutes), 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{rest} min"] * bool(rest or not hours))


@gpu.command()
@click.argument("size", type=gib, required=False)
@LONG
@click.option("--shape", help="A shape such as 3g instead of a size.")
@click.option("--pool", help="Of this pool only.")
@click.option("--or", "alternatives", multiple=True, metavar="SHAPE", help="A shape that would do as well; repeatable.")
@click.option(
    "--on-grant",
    type=click.Choice(["hold", "kernel", "notebook"]),
    default="hold",
    show_default=True,
    help="What happens when it comes: it is held for me; my server starts a GPU kernel; it runs the notebook.",
)
@click.option("--notebook", help="Path of the notebook to run, in my home.")
@click.option("--group", help="Group of mine that it counts for.")
@click.option("--server", is_flag=True, help="For a whole server instead of one kernel.")
@click.option("--may-be-reclaimed", is_flag=True, help="The slice of a server may be taken while it is idle.")
@click.option("--wait", "follow", is_flag=True, help="Go on until it is granted, and say what changes.")
@STATE
@AS_JSON
def request(
    size: float | None, state: Path | None, *, follow: bool, as_json: bool, may_be_reclaimed: bool, **options: Any
) -> None:
    """Ask for SIZE of GPU memory, as in `specola gpu request 20 --for 2h`; it waits in the queue."""
    if (size is None) == (options["shape"] is None):
        raise click.UsageError("Give either a size, as in `specola gpu request 20`, or --shape.")
    if options["notebook"] and options["on_grant"] == "hold":
        options["on_grant"] = "notebook"
    wish = {name: value for name, value in options.items() if value not in (None, (), False)}
    if size is not None:
        wish["gib"] = size
    if may_be_reclaimed:
        wish["reclaimable"] = True
    found = ask(state, lambda api: _requested(api, wish, follow=follow and not as_json))
    shown(found, lambda one: () if follow else (told(one),), as_json=as_json)


async def _requested(api: Api, wish: Json, *, follow: bool) -> Json:
    found = await api.ask("POST", "gpu/requests", wish)
    said = ""
    while follow:
        if (words := told(found)) != said:
            click.echo(words)
            said = words
        if found["state"] != "queued":
            break
        await asyncio.sleep(LOOK_EVERY)
        found = await api.ask("GET", f"gpu/requests/{found['id']}")
    return found


def told(found: Json) -> str:
    """One request in one line."""
    where = f", position {found['position']}, wait {wait(found['wait'])}" if found["position"] else ""
    lease = f", lease {found['lease']}" if found["lease"] else ""
    reason = f": {found['reason']}" if found["reason"] else ""
    return f"{found['id']} {found['state']}{where}{lease}{reason}"


@gpu.command()
@STATE
@AS_JSON
def requests(state: Path | None, *, as_json: bool) -> None:
    """List my requests: those that wait, and what became of the others."""
    shown(ask(state, lambda api: api.ask("GET", "gpu/requests")), asked, as_json=as_json)


def asked(found: Json) -> list[str]:
    """The requests as a table."""
    rows = [
        (one["id"], one["state"], first(one), minutes_in_words(one["minutes"]), one["position"] or "–", waits(one))
        for one in found["items"]
    ]
    heads = ("request", "state", "size", "for", "position", "wait")
    return aligned(heads, rows) if rows else ["You have no requests."]


def first(one: Json) -> str:
    """What a request would like best."""
    return f"{one['wants'][0]['gib']:g} GiB" if one["wants"] else "–"


def waits(one: Json) -> str:
    """How long a request still waits, or why it does not."""
    return wait(one["wait"]) if one["state"] == "queued" else one["reason"]


@gpu.command()
@click.argument("request_id", metavar="REQUEST")
@STATE
def cancel(request_id: str, state: Path | None) -> None:
    """Wait for REQUEST no longer."""
    click.echo(told(ask(state, lambda api: api.ask("DELETE", f"gpu/requests/{segment(request_id)}"))))


def segment(name: str) -> str:
    """An id as one segment of a path."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise click.UsageError("That is no id; `specola gpu requests` and `specola gpu leases` list them.")
    return name


@gpu.command()
@click.option("--all", "every", is_flag=True, help="Those that ended within a day too.")
@STATE
@AS_JSON
def leases(state: Path | None, *, every: bool, as_json: bool) -> None:
    """List my leases, with the time that is left."""
    found = ask(state, lambda api: api.ask("GET", "gpu/leases"))
    shown(found, lambda content: held(content, every=every), as_json=as_json)


def held(found: Json, *, every: bool) -> list[str]:
    """The leases as a table, those that have ended only when all are wanted."""
    rows = [
        (one["id"], one["state"], f"{one['gib']:g} GiB", where(one), used_by(one), left(one), remark(one))
        for one in found["items"]
        if every or one["state"] in LIVE
    ]
    heads = ("lease", "state", "size", "where", "for", "left", "")
    return aligned(heads, rows) if rows else ["You hold no GPU."]


def where(lease: Json) -> str:
    """Which slice of which GPU."""
    place = "" if lease["gpu"] is None else f" {lease['gpu']}:{lease['start']}"
    return f"{lease['pool']}{place} {lease['profile']}{label(lease)}"


def used_by(lease: Json) -> str:
    """What holds it."""
    if lease["server"] is not None:
        return f"server {lease['server'] or '(default)'}"
    return "kernel" if lease["kernel"] else "–"


def left(lease: Json, now: float | None = None) -> str:
    """The time until it ends."""
    end = lease["ends_at"] or lease["expires"]
    if end is None or lease["state"] not in LIVE:
        return "–"
    seconds = datetime.fromisoformat(end).timestamp() - (time.time() if now is None else now)
    return minutes_in_words(round(seconds / MINUTE))


def remark(lease: Json) -> str:
    """What one should know of it."""
    if lease["state"] not in LIVE:
        return f"{lease['outcome'] or ''} {lease['reason']}".strip()
    if lease["cause"]:
        return f"it ends: {lease['cause']}"
    if lease["idle_since"]:
        since = datetime.fromisoformat(lease["idle_since"]).astimezone(UTC)
        return f"idle since {since:%H:%M} UTC ({lease['signal']})"
    return str(lease["reason"])


@gpu.command()
@click.argument("lease_id", metavar="LEASE")
@LONG
@STATE
def renew(lease_id: str, minutes: int, state: Path | None) -> None:
    """Hold LEASE for so much longer than it would last."""
    click.echo(changed(ask(state, lambda api: _changed(api, lease_id, minutes))))


@gpu.command()
@click.argument("lease_id", metavar="LEASE")
@STATE
def release(lease_id: str, state: Path | None) -> None:
    """Give LEASE back; its kernel is saved first."""
    click.echo(changed(ask(state, lambda api: _changed(api, lease_id, None))))


def changed(lease: Json) -> str:
    """What has become of a lease, in one line."""
    time_left = f", {left(lease)} left" if lease["state"] in {"active", "starting"} else ""
    return f"{lease['id']} {lease['state']}{time_left}{': ' + lease['reason'] if lease['reason'] else ''}"


async def _changed(api: Api, lease_id: str, minutes: int | None) -> Json:
    """Renew or release with the newest fencing token: who asks by hand has just looked."""
    path = f"gpu/leases/{segment(lease_id)}"
    token = (await api.ask("GET", path))["token"]
    if minutes is None:
        return await api.ask("DELETE", path, query={"token": str(token)})
    return await api.ask("POST", f"{path}/renew", {"token": token, "minutes": minutes})
