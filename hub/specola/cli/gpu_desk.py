"""What an operator asks about GPUs: who holds what, what a course needs, what is drained, which layout would do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from specola.cli.asking import STATE, ask
from specola.cli.tables import AS_JSON, aligned, shown

MINUTES = "%Y-%m-%d %H:%M"
Json = dict[str, Any]


class Moment(click.DateTime):
    """A time; without a zone it is UTC."""

    name = "time"

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M%z"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """With its zone."""
        found: datetime = super().convert(value, param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


@click.command()
@click.option("--pool", required=True, help="Pool that would serve it.")
@click.option("--shape", required=True, help="Shape of each seat, as `specola gpu offers` lists them.")
@click.option("--seats", type=click.IntRange(1, 10000), required=True, help="People who may come.")
@click.option("--show-up", type=click.FloatRange(0, 1, min_open=True), default=0.85, show_default=True)
@click.option("--start", type=Moment(), help="When it begins (UTC unless a zone is given).")
@click.option("--end", type=Moment(), help="When it ends.")
@STATE
@AS_JSON
def plan(state: Path | None, *, as_json: bool, **course: Any) -> None:
    """Say how many GPUs a course needs, and what stands in its way; nothing is reserved."""
    wish = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in course.items()
        if value is not None
    }
    shown(ask(state, lambda api: api.ask("POST", "gpu/courses/plan", wish)), planned, as_json=as_json)


def planned(found: Json) -> list[str]:
    """What a course needs, and what stands in its way."""
    return [found["text"], *(f"  ✗ {line}" for line in found["conflicts"])]


@click.command()
@STATE
@AS_JSON
def overview(state: Path | None, *, as_json: bool) -> None:
    """Show who holds what since when, who waits, and how scattered the free room is."""
    shown(ask(state, lambda api: api.ask("GET", "gpu/overview")), looked, as_json=as_json)


def looked(found: Json) -> Iterable[str]:
    """Cards, holders, queue and scattered room."""
    yield from _cards(found["gpus"])
    yield from _held(found["held"])
    yield from _queued(found["queued"])
    yield from _scattered(found)


def _cards(pools: Iterable[Json]) -> Iterable[str]:
    signs = {"free": "·", "busy": "█", "idle": "▒", "other": "x"}
    for pool in pools:
        yield f"{pool['name']}: {pool['model']} ({pool['actuator']})"
        if not pool["available"]:
            yield f"  not now: {pool['reason']}"
        for gpu in pool["gpus"]:
            drawn = "|".join(signs[part["state"]] * part["size"] for part in gpu["parts"])
            note = gpu["reason"] if not gpu["healthy"] else "drained" if gpu["drained"] else ""
            yield f"  {gpu['index']:3} {gpu['id']}  [{drawn}]  {note}".rstrip()
    yield "· free  █ busy  ▒ idle  x not ours"


def _held(rows: Iterable[Json]) -> Iterable[str]:
    heads = ("lease", "person", "group", "where", "shape", "state", "since", "until", "idle since")
    cells = [
        (
            one["lease"],
            one["person"],
            one["group"],
            one["pool"] if one["gpu"] is None else f"{one['pool']} {one['gpu']}:{one['start']}",
            one["shape"],
            one["state"],
            _time(one["since"]),
            _time(one["expires"]),
            f"{_time(one['idle_since'])} ({one['signal']})" if one["idle_since"] else "–",
        )
        for one in rows
    ]
    yield ""
    yield from aligned(heads, cells) if cells else ["Nobody holds a GPU."]


def _queued(rows: Iterable[Json]) -> Iterable[str]:
    yield ""
    waiting = list(rows)
    yield f"{len(waiting)} wait." if waiting else "Nobody waits."
    for one in waiting:
        sizes = ", ".join(f"{want['gib']:g} GiB in {want['pool']}" for want in one["wants"])
        yield f"  {one['position'] or '–'}  {one['id']}  {one['group']}  {sizes}: {one['reason']}"


def _scattered(found: Json) -> Iterable[str]:
    rows = [one for one in found["fragmentation"] if one["joined"] > one["now"]]
    if rows:
        yield ""
        yield "Scattered free room (how many fit now, and would if it lay together):"
        for one in rows:
            yield f"  {one['pool']} {one['shape']}: {one['now']} of {one['joined']}"


def _time(text: str | None) -> str:
    return "–" if text is None else datetime.fromisoformat(text).astimezone(UTC).strftime(MINUTES)


@click.command()
@click.argument("pool")
@click.argument("gpu")
@click.option("--reason", default="", help="Said to those who wait.")
@click.option("--from", "start", type=Moment(), help="Not before this time (UTC unless a zone is given).")
@click.option("--undo", is_flag=True, help="Place on it again.")
@STATE
def drain(pool: str, gpu: str, reason: str, start: datetime | None, state: Path | None, *, undo: bool) -> None:
    """Place nothing new on GPU of POOL; who is on it keeps it to the end of the lease."""
    for name in (pool, gpu):
        if not name or "/" in name or name in {".", ".."}:
            raise click.UsageError("`specola gpu overview` lists pools and GPUs.")
    path = f"gpu/drains/{pool}/{gpu}"
    wish: Json = {"reason": reason} | ({} if start is None else {"start": start.isoformat()})
    words = f"Nothing new is placed on {gpu} of {pool}{f' from {start:{MINUTES}} on' if start else ''}."
    if undo:
        words = f"{gpu} of {pool} is in use again."
    ask(state, lambda api: api.ask("DELETE", path) if undo else api.ask("PUT", path, wish))
    click.echo(words)
