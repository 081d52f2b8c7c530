"""Where a cluster may run: which sites and environments a person can choose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from specola.core.errors import Forbidden, NotFound
from specola.scaleout.model import LocalSite, ScaleoutSection

DEFAULT_ENVIRONMENT = "default"


@dataclass(frozen=True)
class Placement:
    """A site and an environment that the person may use."""

    site: str
    environment: str


def may_use(site: LocalSite, groups: Collection[str]) -> bool:
    """A site without groups is everybody's."""
    return not site.groups or any(group in site.groups for group in groups)


def sites_for(section: ScaleoutSection, groups: Collection[str]) -> Mapping[str, LocalSite]:
    """The declared sites that somebody in these groups may use."""
    return {name: site for name, site in section.sites.items() if may_use(site, groups)}


def place(
    section: ScaleoutSection, groups: Collection[str], site: str, environment: str, environments: Collection[str]
) -> Placement:
    """The placement that was asked for; empty names choose the first. NotFound and Forbidden say what there is."""
    if environment and environment not in environments:
        raise NotFound("There is no such environment", f"There is: {', '.join(environments)}.")
    allowed = sites_for(section, groups)
    if site and site not in section.sites:
        raise NotFound("There is no such site", f"There is: {', '.join(section.sites)}.")
    if not allowed:
        raise Forbidden("None of your groups may use a site of this facility", reason="no_site")
    if site and site not in allowed:
        groups_of_site = ", ".join(section.sites[site].groups)
        raise Forbidden("This site is not open to your groups", f"It is open to: {groups_of_site}.", reason="site")
    return Placement(site or next(iter(allowed)), environment or next(iter(environments)))
