"""A snapshot: a directory with what a kernel knew, written aside and then put in its place in one step.

`manifest.json` says what is in it, `namespace.pkl` holds the variables (`pickling.py`), `hooks/<n>/` what the person's
own `save` wrote, `hooks/<n>.load` the function that reads it again.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import platform
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specola_worker.kernel import pickling

MANIFEST = "manifest.json"
KEPT = 5
"""snapshots of one person; the oldest go first"""
VERSION = 1


@dataclass
class Hook:
    """What somebody registered with `gpu.checkpoint`."""

    name: str
    save: Callable[..., Any]
    load: Callable[..., Any] | None


@dataclass
class Plan:
    """What to save, where, and for how long at most; `about` goes into the manifest."""

    target: Path
    namespace: dict[str, Any]
    hidden: dict[str, Any]
    hooks: list[Hook]
    about: dict[str, Any]
    limit: int
    until: float
    before_namespace: Callable[[], None] = field(default=lambda: None)


def call(function: Callable[..., Any], directory: Path) -> Any:
    """Call with the directory when the function takes an argument, else without."""
    try:
        takes = bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        takes = True
    return function(directory) if takes else function()


def write(plan: Plan) -> dict[str, Any]:
    """Run the hooks, save the namespace, put the directory in its place; the manifest."""
    aside = plan.target.with_name(f".{plan.target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)
    (aside / "hooks").mkdir()
    hooks, failed = _run_hooks(plan, aside / "hooks")
    plan.before_namespace()
    names, not_saved = pickling.dump(
        aside / "namespace.pkl", plan.namespace, plan.hidden, limit=plan.limit, until=plan.until
    )
    manifest = {
        **plan.about,
        "version": VERSION,
        "created": time.time(),
        "python": platform.python_version(),
        "names": names,
        "failed": failed + not_saved,
        "hooks": hooks,
        "size": sum(path.stat().st_size for path in aside.rglob("*") if path.is_file()),
    }
    (aside / MANIFEST).write_text(json.dumps(manifest))
    put(aside, plan.target)
    return manifest


def put(aside: Path, target: Path) -> None:
    """Put a complete directory in its place, and forget the oldest beside it."""
    aside.chmod(0o700)
    if target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(target.with_name(f".{target.name}.old"), ignore_errors=True)
    for one in listing(target.parent)[KEPT:]:
        shutil.rmtree(target.parent / one["name"], ignore_errors=True)


def _run_hooks(plan: Plan, place: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    done, failed = [], []
    for number, hook in enumerate(plan.hooks):
        directory = place / str(number)
        directory.mkdir()
        why = _run_hook(hook, directory, plan.until - time.monotonic())
        if not why and hook.load is not None:
            try:
                (place / f"{number}.load").write_bytes(pickling.dump_one(hook.load, plan.namespace))
            except Exception as error:  # noqa: BLE001 - objects raise what they like when they are pickled
                why = f"its load could not be kept: {pickling.reason(error)}"
        if why:
            failed.append({"name": f"checkpoint {hook.name}", "why": why})
        else:
            done.append({"name": hook.name, "number": number})
    return done, failed


def _run_hook(hook: Hook, directory: Path, seconds: float) -> str:
    """Run one `save`, for so long at most; why it failed, or nothing."""
    trouble: list[str] = []

    def act() -> None:
        try:
            call(hook.save, directory)
        except BaseException as error:  # noqa: BLE001 - it is the person's own code
            trouble.append(pickling.reason(error))

    thread = threading.Thread(target=act, name=f"specola-save-{hook.name}", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if thread.is_alive():
        return f"it did not end within {seconds:.0f} s"
    return trouble[0] if trouble else ""


def listing(place: Path) -> list[dict[str, Any]]:
    """The manifests of the snapshots in a directory, newest first, each with its `name`."""
    found = []
    for path in place.glob(f"[!.]*/{MANIFEST}"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            manifest = {**json.loads(path.read_text()), "name": path.parent.name}
            found.append(manifest | {"created": float(manifest.get("created", 0))})
    return sorted(found, key=lambda one: one["created"], reverse=True)


def read(
    directory: Path, namespace: dict[str, Any], hooks: list[Hook]
) -> tuple[list[str], list[str], list[dict[str, str]]]:
    """Put a snapshot into a namespace: names restored, hooks run, and what failed.

    A hook that is registered now under the same name is used instead of the one that was saved.
    """
    manifest = json.loads((directory / MANIFEST).read_text())
    names, failed = pickling.load(directory / "namespace.pkl", manifest["names"], namespace)
    registered = {hook.name: hook.load for hook in hooks if hook.load is not None}
    loaded = []
    for one in manifest["hooks"]:
        saved = directory / "hooks" / f"{one['number']}.load"
        try:
            function = registered.get(one["name"])
            if function is None and saved.exists():
                function = pickling.load_one(saved.read_bytes(), namespace)
            if function is not None:
                written = directory / "hooks" / str(one["number"])
                written.mkdir(exist_ok=True)  # one that is empty does not travel
                call(function, written)
                loaded.append(one["name"])
        except Exception as error:  # noqa: BLE001 - it is the person's own code
            failed.append({"name": f"checkpoint {one['name']}", "why": pickling.reason(error)})
    return names, loaded, failed
