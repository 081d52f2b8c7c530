"""What the hub keeps about a login, encrypted: tokens, and what the issuer last said. Pure.

    access_token, refresh_token, id_token, scope   of the issuer
    expires_at                                     of the access token, seconds since 1970
    oauth_user                                     the last userinfo
    specola                                        issuer, subject, full_name, confirmed, groups [{group, why}], gone

Other keys belong to others and are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from specola.identity.roles import Membership

SAFETY = 10
"""seconds before its end at which an access token is not used any more"""

State = dict[str, Any]


def with_tokens(state: Mapping[str, Any], answer: Mapping[str, Any], now: float) -> State:
    """The state with the tokens of an answer; an issuer that sends no new refresh token means the old one."""
    merged = {**state, "access_token": answer["access_token"], "expires_at": now + _life(answer)}
    for name in ("refresh_token", "id_token"):
        if isinstance(answer.get(name), str):
            merged[name] = answer[name]
    scope = answer.get("scope")
    if isinstance(scope, str):
        merged["scope"] = scope.split()
    return merged


def confirmed(
    state: Mapping[str, Any], userinfo: Mapping[str, Any], groups: Iterable[Membership], now: float, **who: str
) -> State:
    """The state after the issuer has said who somebody is; `who` is issuer, subject and full_name."""
    facts = {**section(state), **who, "confirmed": now, "groups": [asdict(group) for group in groups]}
    return {**state, "oauth_user": dict(userinfo), "specola": facts}


def gone(state: Mapping[str, Any], why: str) -> State:
    """The state without anything that opens a door, and why."""
    secrets = {"access_token", "refresh_token", "id_token", "expires_at"}
    kept = {name: value for name, value in state.items() if name not in secrets}
    return {**kept, "specola": {**section(state), "gone": why}}


def merge(existing: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> State | None:
    """What to keep when both are there: the later confirmation wins, and no key of others is lost."""
    if not existing or not new:
        return dict(new or existing or {}) or None
    old, young = section(existing), section(new)
    if old.get("confirmed", 0) > young.get("confirmed", 0) and "gone" not in old:
        existing, new = new, existing
    return {**existing, **new}


def section(state: Mapping[str, Any]) -> State:
    """Our own part of the state."""
    return dict(state.get("specola") or {})


def is_fresh(state: Mapping[str, Any], now: float) -> bool:
    """Whether the access token may still be used."""
    return bool(state.get("access_token")) and float(state.get("expires_at", 0)) - SAFETY > now


def _life(answer: Mapping[str, Any]) -> float:
    life = answer.get("expires_in")
    return float(life) if isinstance(life, int | float) and not isinstance(life, bool) else 0.0
