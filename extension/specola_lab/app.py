"""Puts our addresses into jupyter-server."""

from __future__ import annotations

from typing import Any

from jupyter_server.utils import url_path_join
from tornado.ioloop import IOLoop

from specola_lab import activity, dashboards, home, lasting, relay, settings, skeleton
from specola_lab.facility import Facility
from specola_lab.gpu import install as gpu


def hide_debugger(specs: Any) -> None:
    """Say in every kernel spec what etc/ipython/ipython_kernel_config.py does: the Lab would ask in vain."""
    every = specs.get_all_specs

    def without_debugger() -> dict[str, Any]:
        found: dict[str, Any] = every()
        for kernel in found.values():
            kernel["spec"].setdefault("metadata", {})["debugger"] = False
        return found

    specs.get_all_specs = without_debugger


def load(app: Any) -> None:
    """Called by jupyter-server once, before its loop runs."""
    here = settings.from_environment()
    facility = Facility(here)
    skeleton.furnish(here.home, skeleton.sources())
    use = home.HomeUse(here.home, here.quota_gib)
    base = app.web_app.settings["base_url"]
    rules = [*relay.handlers(facility), *dashboards.handlers(here.home), *home.handlers(use), *gpu.load(app, facility)]
    app.web_app.add_handlers(".*$", [(url_path_join(base, path), *rest) for path, *rest in rules])
    app.web_app.settings.setdefault("page_config_data", {})["specolaFacility"] = here.facility
    if here.separate_accounts:
        hide_debugger(app.kernel_spec_manager)
    if hasattr(app.identity_provider, "hub_auth"):
        lasting.outlast(app.identity_provider.hub_auth)
    if here.is_complete:
        heartbeat = activity.Heartbeat(facility, app.kernel_manager, use, app.log)
        IOLoop.current().add_callback(heartbeat.start)
        app.web_app.settings["specola_heartbeat"] = heartbeat
    app.log.info("specola_lab relays to %s", here.api_url or "nothing: no facility started this server")
