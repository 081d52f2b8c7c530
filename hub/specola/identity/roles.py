"""What each role may do at the hub, in one table, and who is in which group and why.

JupyterHub's roles are `specola-<role>`; each is given to the groups that declare the role.
Nobody gets `access:servers`, `admin:auth_state` or `inherit` here: an administrator starts and stops
servers and never enters one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from specola.identity.model import Role

_USER = (
    "self",
    "access:services!service=specola",
    "access:services!service=dask-gateway",
    "custom:specola:identity",
    "custom:specola:gpu",
    "custom:specola:gpu:write",
    "custom:specola:scaleout",
    "custom:specola:scaleout:write",
    "custom:specola:servers",
    "custom:specola:servers:write",
)
_PEOPLE = ("list:users", "read:users:name", "read:users:groups", "read:users:activity")

ROLE_SCOPES: Mapping[Role, tuple[str, ...]] = {
    Role.USER: _USER,
    Role.INSTRUCTOR: _USER,
    Role.ACCOUNTANT: (*_USER, *_PEOPLE),
    Role.ADMIN: (
        *_USER,
        "admin-ui",
        "list:users",
        "read:users",
        "list:groups",
        "read:groups",
        "read:servers",
        "servers",
        "delete:servers",
        "read:hub",
        "read:metrics",
        "custom:specola:admin",
    ),
}

DESCRIPTIONS: Mapping[Role, str] = {
    Role.USER: "Uses the facility",
    Role.INSTRUCTOR: "Uses the facility and gives courses",
    Role.ACCOUNTANT: "Uses the facility and sees who used it",
    Role.ADMIN: "Runs the facility",
}

Why = Literal["token", "roster"]


@dataclass(frozen=True)
class Membership:
    """One declared group that somebody is in, and how we know."""

    group: str
    why: Why


def hub_roles(groups: Mapping[str, Sequence[Role]]) -> list[dict[str, Any]]:
    """What `c.JupyterHub.load_roles` needs, from declared group → roles."""
    return [
        {
            "name": f"specola-{role}",
            "description": DESCRIPTIONS[role],
            "scopes": list(scopes),
            "groups": sorted(name for name, roles in groups.items() if role in roles),
        }
        for role, scopes in ROLE_SCOPES.items()
    ]


def membership(
    name: str, claimed: Iterable[str], groups: Mapping[str, tuple[Sequence[Role], Sequence[str]]]
) -> tuple[Membership, ...]:
    """The declared groups that `name` is in, sorted; a claim wins over our own roster as the reason.

    Groups that the facility does not declare do not count.
    """
    claims = set(claimed)
    found: list[Membership] = []
    for group, (_, roster) in sorted(groups.items()):
        if group in claims:
            found.append(Membership(group, "token"))
        elif name in roster:
            found.append(Membership(group, "roster"))
    return tuple(found)
