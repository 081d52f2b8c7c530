"""The options of a cluster that a person chooses, in dask-gateway's own terms."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dask_gateway_server.models import User
from dask_gateway_server.options import Integer, Options, Select, String

from specola.core.errors import BadInput, Forbidden
from specola.scaleout.model import ScaleoutSection
from specola.scaleout.placement import place, sites_for


def cluster_options(section: ScaleoutSection, environments: Collection[str], user: User) -> Options:
    """What this person may choose: a stock client shows these as a form.

    `request` is an idempotency key: the same key gives the same cluster.
    """
    sites = list(sites_for(section, user.groups))
    if not sites:
        raise Forbidden("None of your groups may use a site of this facility", reason="no_site")

    def configure(options: Any, user: User) -> dict[str, Any]:
        return {"site": options.site, "software": options.environment, "groups": sorted(user.groups)}

    return Options(
        Select("site", sites, default=sites[0], label="Site"),
        Select("environment", list(environments), label="Environment"),
        Integer("workers", default=0, min=0, label="Workers at the start"),
        String("request", default="", label="Idempotency key"),
        handler=configure,
    )


def choose(section: ScaleoutSection, environments: Collection[str], user: User, asked: object) -> dict[str, Any]:
    """Complete what somebody asked for with the site and environment that they get.

    Says in words what upstream's own check would refuse with a repetition of the input.
    """
    if not isinstance(asked, dict):
        raise BadInput("The options of a cluster are a JSON object")
    known = {"site": str, "environment": str, "workers": int, "request": str}
    for name, value in asked.items():
        if name not in known:
            raise BadInput("There is no such option", f"There is: {', '.join(known)}.")
        if not isinstance(value, known[name]) or isinstance(value, bool):
            raise BadInput(f"Option {name} must be {'a number' if known[name] is int else 'text'}")
    placement = place(section, user.groups, asked.get("site", ""), asked.get("environment", ""), environments)
    return {**asked, "site": placement.site, "environment": placement.environment}
