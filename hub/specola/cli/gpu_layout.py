"""`specola gpu layout --from-history`: the fixed slices that would have served most of what people used."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from specola.cli.asking import layout_of
from specola.cli.run import STATE
from specola.cli.tables import AS_JSON, shown
from specola.core.errors import StateError
from specola.core.layout import Layout
from specola.core.rights import acting_as
from specola.facility.runtime import load_runtime
from specola.gpu.adapters.profiles import models
from specola.gpu.geometry import GpuModel
from specola.gpu.layouts import Proposal, Used, propose
from specola.gpu.store import Record, Store

DAY = 86400
NEVER_USED = frozenset({"lapsed", "failed", "cancelled"})
"""outcomes of leases that no kernel and no server ever used"""
Json = dict[str, Any]


@click.command("layout")
@click.option(
    "--from-history",
    is_flag=True,
    required=True,
    expose_value=False,
    help="From the records of leases that have ended; there is no other way yet.",
)
@click.option("--pool", help="For the GPUs of this pool, from its own records.")
@click.option("--model", help="For GPUs of this model, from all records.")
@click.option("--cards", type=click.IntRange(1, 4096), help="Number of GPUs; that of the pool where the file says it.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How far to look back.")
@STATE
@AS_JSON
def layout(  # one option each
    pool: str | None, model: str | None, cards: int | None, days: int, state: Path, *, as_json: bool
) -> None:
    """Propose fixed slices for GPUs whose layout cannot change while people use them; nothing is changed."""
    where = layout_of(state)
    kind, number = _gpus(where, pool, model, cards)
    records = [one for one in used(where, time.time() - days * DAY) if pool in {None, one.pool}]
    fitting = [one for one in records if one.shape in kind.profiles]
    if not fitting:
        raise StateError(f"in the last {days} days no lease has ended whose slice a {kind.name} has")
    history = [Used(one.shape, one.asked, one.allocated_seconds) for one in fitting]
    found = propose(history, kind, number)
    shown(_facts(kind, found, fitting), lambda _: _words(kind, found, fitting, days), as_json=as_json)


def _gpus(where: Layout, pool: str | None, model: str | None, cards: int | None) -> tuple[GpuModel, int]:
    """Which GPUs are meant, and how many."""
    if (pool is None) == (model is None):
        raise click.UsageError("Give either --pool, or --model with --cards.")
    if model is not None:
        if model not in models():
            raise click.UsageError(f"No such model; there are: {', '.join(models())}.")
        name, known = model, None
    else:
        pools = load_runtime(where).facility.gpu.pools
        if pool not in pools:
            raise click.UsageError(f"No such pool; there are: {', '.join(pools) or 'none'}.")
        name, known = pools[pool].model, getattr(pools[pool], "cards", None)
    if cards is None and known is None:
        raise click.UsageError("Say with --cards how many GPUs there are.")
    return models()[name], cards or known or 1


def used(where: Layout, since: float) -> list[Record]:
    """Records of leases that somebody used, read as the account that they belong to."""
    try:
        owner = where.state.stat()
        with acting_as(owner.st_uid, owner.st_gid):
            if not where.database.exists():
                return []
            engine = sa.create_engine(f"sqlite:///file:{where.database}?mode=ro&uri=true")
            try:
                return [one for one in Store(engine).records(since) if one.outcome not in NEVER_USED]
            finally:
                engine.dispose()
    except OSError as error:
        raise StateError(f"cannot read {where.database}: {error.strerror}") from None
    except sa.exc.OperationalError as error:
        raise StateError(f"cannot read {where.database}: {error.orig}") from None


def _words(kind: GpuModel, found: Proposal, records: Sequence[Record], days: int) -> Iterator[str]:
    invented = sum(one.simulated for one in records)
    label = f", {invented} of them simulated" if invented else ""
    yield f"{len(records)} leases ended in the last {days} days{label}."
    rows = [(number, " ".join(shapes), named(kind, shapes)) for shapes, number in Counter(found.layouts).items()]
    for row in rows:
        yield "  {} × [{}]   {}".format(*row)
    yield f"It would have served {found.served:.0%} of them at once."
    for shape, number in found.unserved.items():
        yield f"Not served at all: {number} of shape {shape}."


def named(kind: GpuModel, shapes: Sequence[str]) -> str:
    """The layout in NVIDIA's names, which move with the driver."""
    return ", ".join(kind.profiles[shape].name for shape in shapes)


def _facts(kind: GpuModel, found: Proposal, records: Sequence[Record]) -> Json:
    return {
        "model": kind.name,
        "layouts": [{"gpus": number, "shapes": list(shapes)} for shapes, number in Counter(found.layouts).items()],
        "served": round(found.served, 4),
        "unserved": dict(found.unserved),
        "leases": len(records),
        "simulated": sum(one.simulated for one in records),
    }
