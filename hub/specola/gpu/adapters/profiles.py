"""The table of GPU models that comes with Specola: `profiles.yaml`, checked while it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from specola.gpu import packing
from specola.gpu.geometry import Geometry, GpuModel, Profile, Shape

_NAMED = re.compile(r"^\dg\.(\d+)gb")
_UNREAD = 0.95
"""share of the named memory that a program sees where nobody published a reading, as on most models that were read"""


class BadTable(ValueError):
    """The table contradicts itself; the text names the entry."""


@cache
def models() -> Mapping[str, GpuModel]:
    """Every GPU model by name."""
    return parse(yaml.safe_load(files("specola.gpu").joinpath("profiles.yaml").read_text("utf-8")))


def parse(table: Mapping[str, Any]) -> Mapping[str, GpuModel]:
    """The models of a table; BadTable when it contradicts itself."""
    if table.get("schema") != 1:
        raise BadTable("schema: only version 1 can be read")
    geometries = {name: _geometry(name, entry) for name, entry in table["geometries"].items()}
    found = {name: _model(name, entry, geometries[entry["geometry"]]) for name, entry in table["models"].items()}
    sources = table["sources"]
    for name, entry in table["models"].items():
        if unknown := set(entry["sources"]) - set(sources):
            raise BadTable(f"{name}: no such source: {', '.join(sorted(unknown))}")
    return found


def _geometry(name: str, entry: Mapping[str, Any]) -> Geometry:
    shapes = {
        shape: Shape(shape, values["size"], tuple(values["starts"]), values["profile_id"], dict(values["counters"]))
        for shape, values in entry["shapes"].items()
    }
    geometry = Geometry(name, entry["slots"], shapes, dict(entry["capacity"]))
    for shape in shapes.values():
        if any(start + shape.size > geometry.slots for start in shape.starts):
            raise BadTable(f"{name}: {shape.name} does not lie on the GPU")
        if any(amount > geometry.capacity.get(counter, 0) for counter, amount in shape.counters.items()):
            raise BadTable(f"{name}: {shape.name} needs more engines than a GPU has")
    try:
        packing.check(geometry)
    except ValueError as error:
        raise BadTable(f"{name}: {error}") from error
    return geometry


def _model(name: str, entry: Mapping[str, Any], geometry: Geometry) -> GpuModel:
    profiles = {values["shape"]: _profile(profile, values) for profile, values in entry["profiles"].items()}
    if len(profiles) != len(entry["profiles"]):
        raise BadTable(f"{name}: two profiles have one shape")
    for profile in profiles.values():
        if profile.shape not in geometry.shapes:
            raise BadTable(f"{name}: {profile.name} has an unknown shape")
        fit = packing.placeable(geometry, (), profile.shape)
        if fit != profile.maximum:
            raise BadTable(f"{name}: {fit} of {profile.name} fit, not {profile.maximum}")
    largest = max(profiles.values(), key=lambda profile: geometry.size(profile.shape))
    return GpuModel(
        name,
        geometry,
        profiles,
        largest.gib,
        tuple(entry["pci_ids"]),
        tuple(entry["product_names"]),
        entry["resetless_mig_toggle"],
        dict(entry["evidence"]),
    )


def _profile(name: str, values: Mapping[str, Any]) -> Profile:
    named = _NAMED.match(name)
    if named is None:
        raise BadTable(f"{name}: not the name of a profile")
    read = values.get("gib")
    gib = read if read is not None else round(_UNREAD * int(named[1]), 2)
    return Profile(name, values["shape"], values["max"], gib, values.get("sm"), read is not None)
