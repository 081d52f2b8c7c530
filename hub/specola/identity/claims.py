"""From what an issuer says about somebody to their groups.

Three forms are understood, as INDIGO IAM's profiles issue them:

- `wlcg.groups` (wlcg): paths with a leading slash, `/ml-infn/gpu`;
- `groups` (iam, and Keycloak): the same without or with a leading slash;
- `entitlements`, `eduperson_entitlement` (aarc): URNs such as `urn:geant:x.org:group:ml-infn:gpu#iam.x.org`,
  with an optional `role=` part, which is no group.

A group is written without a leading slash everywhere in Specola: `ml-infn/gpu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from specola.core.errors import Forbidden

PATHS = ("wlcg.groups", "groups")
URNS = ("entitlements", "eduperson_entitlement")
LONGEST = 255


class ClaimError(Forbidden):
    """The issuer's claims cannot be used; the text says which claim and why, never its content."""

    reason = "bad_claim"


def groups_of(userinfo: Mapping[str, Any], id_token: Mapping[str, Any]) -> tuple[str, ...]:
    """All groups that either document names, sorted, each once.

    >>> groups_of({"wlcg.groups": ["/physics"], "groups": ["physics", "ml/gpu"]}, {})
    ('ml/gpu', 'physics')
    """
    found: set[str] = set()
    for document in (userinfo, id_token):
        for claim in PATHS:
            found.update(_path(claim, item) for item in _strings(document, claim))
        for claim in URNS:
            found.update(group for item in _strings(document, claim) if (group := _group_of_urn(claim, item)))
    return tuple(sorted(found))


def _strings(document: Mapping[str, Any], claim: str) -> list[str]:
    value = document.get(claim, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ClaimError(
            "Your identity cannot be used here.",
            f"The login service sent the claim {claim!r} in a form other than a list of names. "
            "Tell the operator of this facility: the client's registration at the issuer needs a look.",
        )
    return value


def _path(claim: str, text: str) -> str:
    group = text.strip().strip("/")
    if not group or len(group) > LONGEST or not group.isprintable():
        raise ClaimError(
            "Your identity cannot be used here.",
            f"The login service sent a name in the claim {claim!r} that cannot be a group. "
            "Tell the operator of this facility.",
        )
    return group


def _group_of_urn(claim: str, urn: str) -> str | None:
    """The group in an AARC-G069 entitlement; None for any other entitlement."""
    name = urn.partition("#")[0]
    scheme, _, rest = name.partition(":")
    namespace, separator, path = rest.partition(":group:")
    if scheme.lower() != "urn" or not namespace or not separator:
        return None
    parts = [unquote(part) for part in path.split(":") if not part.startswith("role=")]
    return _path(claim, "/".join(parts))
