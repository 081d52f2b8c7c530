"""How a cluster shows itself in a notebook: one small card, in the colours of the Lab's theme."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from html import escape
from typing import Any

from specola_lab.settings import GIB


@dataclass(frozen=True)
class Numbers:
    """What the card says."""

    name: str
    status: str
    running: int
    wanted: int | None
    threads: int
    memory: int
    memory_limit: int
    cpu: float
    executing: int
    ready: int
    reason: str
    link: str | None


def dashboard(name: str) -> str | None:
    """Address of a cluster's dashboard below the own server; None outside of a hub."""
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    return f"{prefix.rstrip('/')}/specola/clusters/{name}/dashboard/status" if prefix else None


def numbers(
    name: str, status: str, workers: dict[str, Any], *, wanted: int | None, reason: str, link: str | None
) -> Numbers:
    """Sums over the workers as the scheduler describes them."""
    metrics = [worker.get("metrics", {}) for worker in workers.values()]
    counts = [metric.get("task_counts", {}) for metric in metrics]
    return Numbers(
        name=name,
        status=status,
        running=len(workers),
        wanted=wanted,
        threads=sum(worker.get("nthreads", 0) for worker in workers.values()),
        memory=sum(int(metric.get("memory", 0)) for metric in metrics),
        memory_limit=sum(int(worker.get("memory_limit") or 0) for worker in workers.values()),
        cpu=sum(float(metric.get("cpu", 0)) for metric in metrics),
        executing=sum(count.get("executing", 0) for count in counts),
        ready=sum(count.get("ready", 0) + count.get("waiting", 0) for count in counts),
        reason=reason,
        link=link,
    )


DOT = {"running": "var(--jp-success-color1, #2e7d32)", "closed": "var(--jp-ui-font-color3, #9e9e9e)"}
BOX = (
    "border:1px solid var(--jp-border-color2, #e0e0e0);border-radius:4px;padding:8px 12px;display:inline-block;"
    "min-width:320px;line-height:1.6;font-family:var(--jp-ui-font-family, sans-serif);"
    "font-size:var(--jp-ui-font-size1, 13px);color:var(--jp-ui-font-color1, inherit)"
)
MUTED = "color:var(--jp-ui-font-color2, #616161)"
TRACK = "background:var(--jp-layout-color3, #bdbdbd);border-radius:3px;height:5px;margin:2px 0 4px"


def _bar(share: float) -> str:
    fill = f"background:var(--jp-brand-color1, #1976d2);border-radius:3px;height:5px;width:{100 * min(1, share):.0f}%"
    return f"<div style='{TRACK}'><div style='{fill}'></div></div>"


def html(now: Numbers) -> str:
    """The card."""
    dot = f"<span style='color:{DOT.get(now.status, 'var(--jp-warn-color1, #b26a00)')}' aria-hidden='true'>●</span>"
    wanted = "" if now.wanted is None else f" of {now.wanted}"
    state = "" if now.status == "running" else f" <span style='{MUTED}'>{escape(now.status)}</span>"
    lines = [f"<div>{dot} <b>Dask cluster {escape(now.name[:8])}</b>{state}</div>"]
    if now.status == "running":
        lines.append(f"<div>{now.running}{wanted} workers · {now.threads} threads · CPU {now.cpu:.0f} %</div>")
        if now.memory_limit:
            lines.append(f"<div>{now.memory / GIB:.1f} of {now.memory_limit / GIB:.1f} GiB memory</div>")
            lines.append(_bar(now.memory / now.memory_limit))
        lines.append(f"<div style='{MUTED}'>{now.executing} tasks running, {now.ready} waiting on workers</div>")
    if now.reason:
        lines.append(f"<div style='{MUTED}'>{escape(now.reason)}</div>")
    if now.link and now.status == "running":
        link = escape(now.link, quote=True)
        lines.append(f"<div><a href='{link}' target='_blank' rel='noopener'>Dashboard</a></div>")
    return f"<div style='{BOX}'>{''.join(lines)}</div>"


def widget(card: str) -> Any | None:
    """An HTML widget with the card; None where ipywidgets is not there."""
    try:
        from ipywidgets import HTML
    except ImportError:
        return None
    return HTML(card)


def keep_fresh(cluster: Any, view: Any, seconds: float) -> None:
    """Renew a card until the cluster closes or nobody holds it any more."""
    held = weakref.ref(cluster)

    def renew() -> None:
        pause = threading.Event()
        while not pause.wait(seconds):
            shown = held()
            if shown is None:
                return
            view.value = html(shown.snapshot())
            if shown.status != "running":
                return
            del shown

    threading.Thread(target=renew, name="specola-card", daemon=True).start()
