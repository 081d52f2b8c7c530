"""A request for a GPU that shows itself live in a notebook: an anywidget, which Lab and Notebook 7 both load.

What is drawn is worked out here, in the kernel, from what the facility says; the browser's half counts seconds and
sends clicks back. Where anywidget is missing, or in a saved notebook, the same is there as text.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from specola_lab._api import GpuError
from specola_lab.gpu import said

if TYPE_CHECKING:
    from specola_lab.gpu.client import Wish

MOVING_SECONDS = 1.5
CALM_SECONDS = 5.0
CALM = {"offered", "active"}
RENEWABLE = {"active", "expiring"}

ESM = """
function make(tag, name, parent) {
  const element = document.createElement(tag);
  element.className = name;
  parent.append(element);
  return element;
}
function left(ends) {
  const s = Math.max(0, Math.round(ends - Date.now() / 1000));
  if (s < 60) return `${s} s left`;
  const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  return h ? `${h} h ${m} min left` : s < 600 ? `${m} min ${s % 60} s left` : `${m} min left`;
}
function render({ model, el }) {
  const root = make("div", "specola-gpu", el);
  root.setAttribute("role", "group");
  const head = make("div", "specola-gpu-row", root);
  const title = make("b", "", head);
  const pill = make("span", "specola-gpu-pill", head);
  const clock = make("span", "specola-gpu-soft", head);
  const words = make("div", "", root);
  words.setAttribute("role", "status");
  const problem = make("div", "specola-gpu-bad", root);
  problem.setAttribute("role", "alert");
  const buttons = make("div", "specola-gpu-row", root);
  const tick = () => {
    const ends = model.get("view").ends;
    clock.textContent = ends ? left(ends) : "";
  };
  const draw = () => {
    const view = model.get("view");
    root.setAttribute("aria-label", `GPU: ${view.title}`);
    title.textContent = view.title;
    pill.textContent = view.pill;
    if (words.textContent !== view.words) words.textContent = view.words;
    problem.textContent = view.problem;
    const shown = view.actions.map(([name]) => name).join();
    if (buttons.dataset.shown !== shown) {
      buttons.dataset.shown = shown;
      buttons.replaceChildren();
      for (const [name, label] of view.actions) {
        const button = make("button", "specola-gpu-button", buttons);
        button.textContent = label;
        button.onclick = () => model.send({ do: name });
      }
    }
    tick();
  };
  model.on("change:view", draw);
  const timer = setInterval(tick, 1000);
  draw();
  return () => { clearInterval(timer); model.off("change:view", draw); };
}
export default { render };
"""
CSS = """
.specola-gpu { border: 1px solid var(--jp-border-color2, #e0e0e0); border-radius: 4px; display: inline-block;
  line-height: 1.6; max-width: 560px; min-width: 320px; padding: 8px 12px; color: var(--jp-ui-font-color1, inherit);
  font-family: var(--jp-ui-font-family, sans-serif); font-size: var(--jp-ui-font-size1, 13px); }
.specola-gpu-row { align-items: center; display: flex; flex-wrap: wrap; gap: 8px; }
.specola-gpu-row:empty, .specola-gpu-bad:empty, .specola-gpu-pill:empty { display: none; }
.specola-gpu-pill { border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 9px; font-size: 11px;
  padding: 0 7px; }
.specola-gpu-soft { color: var(--jp-ui-font-color2, #616161); margin-left: auto; }
.specola-gpu-bad { border-left: 3px solid var(--jp-error-color1, #c62828); padding-left: 8px; }
.specola-gpu-button { background: var(--jp-layout-color2, #eee); border: 1px solid var(--jp-border-color1, #bdbdbd);
  border-radius: 3px; color: inherit; cursor: pointer; font: inherit; margin-top: 4px; padding: 2px 10px; }
.specola-gpu-button:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
"""


def view(wish: Wish, problem: str = "") -> dict[str, Any]:
    """What is drawn: a title, a pill, words, the end in seconds since 1970, and buttons as (action, label)."""
    held = wish.lease
    shown: dict[str, Any] = {"problem": problem, "ends": None, "actions": []}
    if held is None:
        request = wish.request
        waits = request["state"] == "queued"
        place = f"position {request['position']}" if request["position"] else request["state"]
        words = f"{said.wait(request['wait']).capitalize()}. {request['reason']}" if waits else request["reason"]
        actions = [["cancel", "Cancel"]] if waits else []
        return shown | {"title": said.wished(request), "pill": place, "words": words, "actions": actions}
    if held["state"] in {"offered", *RENEWABLE}:
        shown["ends"] = said.end(held)
        keep = ["keep", "Keep it"] if held["cause"] == "reclaimed" else ["renew", "Renew"]
        shown["actions"] = [*([keep] if held["state"] in RENEWABLE else []), ["release", "Give back"]]
    return shown | {"title": said.what(held), "pill": held["state"], "words": said.doing(held)}


def html(wish: Wish) -> str:
    """The same without a widget: the words of this moment."""
    now = view(wish)
    return f"<div><b>{escape(now['title'])}</b> · {escape(now['pill'])}<br>{escape(now['words'])}</div>"


def bundle(wish: Wish) -> dict[str, Any]:
    """For `_repr_mimebundle_`."""
    words = {"text/plain": repr(wish), "text/html": html(wish)}
    shown = live(wish)
    if shown is None:
        return words
    made: Any = shown._repr_mimebundle_()
    found: dict[str, Any] = made[0] if isinstance(made, tuple) else made
    return found | words


@cache
def _drawing() -> Any:
    """The widget's class; ImportError where anywidget is not there."""
    import anywidget
    import traitlets

    class GpuRequest(anywidget.AnyWidget):
        _esm = ESM
        _css = CSS
        view = traitlets.Dict().tag(sync=True)

    return GpuRequest


def live(wish: Wish) -> Any | None:
    """The widget, which renews itself; None where anywidget is not there."""
    try:
        drawn = _drawing()(view=view(wish))
    except ImportError:
        return None
    follow = Follower(wish, drawn)
    drawn.on_msg(follow.clicked)
    follow.start()
    return drawn


class Follower:
    """Keeps a widget up to date until nothing changes any more, or the widget is gone."""

    def __init__(self, wish: Wish, drawn: Any) -> None:
        self._wish = wish
        self._drawn = weakref.ref(drawn)
        self._wake = threading.Event()
        self._refused = ""
        self._away = ""

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._follow, name="specola-gpu", daemon=True).start()

    def clicked(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        """Called by ipywidgets, in the kernel's own thread."""
        deeds: dict[str, Callable[[], None]] = {
            "cancel": self._wish.cancel,
            "keep": self._wish.keep,
            "renew": self._wish.renew,
            "release": self._wish.release,
        }
        deed = deeds.get(str(content.get("do")))
        if deed is None:
            return
        self._refused = ""
        try:
            deed()
        except GpuError as error:
            self._refused = str(error)
        self._show()
        self._wake.set()

    def _show(self) -> bool:
        drawn = self._drawn()
        if drawn is None or drawn.comm is None:
            return False
        drawn.view = view(self._wish, self._refused or self._away)
        return True

    def _follow(self) -> None:
        while not self._wish.over:
            self._wake.wait(CALM_SECONDS if self._wish.state in CALM else MOVING_SECONDS)
            self._wake.clear()
            try:
                self._wish.refresh()
            except GpuError as error:
                self._away = str(error)
            else:
                self._away = ""
            if not self._show():
                return
