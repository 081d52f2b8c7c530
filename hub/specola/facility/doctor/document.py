"""Probes of the facility file and of what it refers to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from specola.core.errors import StateError
from specola.core.section import SecretRef
from specola.facility.doctor.finding import Findings, Patient, ill, not_tried, well


async def facility_file(who: Patient) -> Findings:
    """The document itself."""
    if who.complaints:
        return [ill(line, "see docs/facility.md for every key") for line in who.complaints]
    return [well(f"{who.source} is valid" if who.source else "none, which is valid: every key has a default")]


async def secrets(who: Patient) -> Findings:
    """Every secret that the document refers to can be read."""
    found: Findings = []
    for place, reference in _references(who.runtime.facility if who.runtime else None, ""):
        try:
            empty = not reference.read().get_secret_value()
        except StateError as error:
            found.append(ill(f"{place}: {error}", "make it readable for the account that starts Specola"))
            continue
        found.append(ill(f"{place}: is empty", "put the secret there") if empty else well(f"{place}: can be read"))
    return found or [not_tried("the facility file refers to none")]


def _references(value: Any, place: str) -> Iterator[tuple[str, SecretRef]]:
    if isinstance(value, SecretRef):
        yield place, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name), f"{place}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _references(item, f"{place}.{key}")
