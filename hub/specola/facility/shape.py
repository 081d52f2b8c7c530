"""The types of facility.yaml as a tree that can be walked beside the file."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from specola.facility.document import Place
from specola.facility.model import Facility

TAGS = ("kind", "actuator")
"""keys whose value selects a section of a union"""


def fields(kind: Any) -> dict[str, FieldInfo]:
    """The keys of a section; none for any other type."""
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def bare(kind: Any) -> Any:
    """A type without `Annotated` and without `| None`; a union is always `Union`."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in {Union, types.UnionType}:
        members = [member for member in get_args(kind) if member is not type(None)]
        return bare(members[0]) if len(members) == 1 else Union[tuple(members)]  # noqa: UP007 - built at run time
    return kind


def tag_of(kind: Any) -> str:
    """The key that selects a section of a union: the one that all of them have."""
    sections = [fields(bare(member)) for member in get_args(kind)] if get_origin(kind) is Union else []
    return next((tag for tag in TAGS if sections and all(tag in known for known in sections)), TAGS[0])


def members(kind: Any) -> dict[str, Any]:
    """The sections of a union by the value that selects them, the default one first."""
    if get_origin(kind) is not Union:
        return {}
    name = tag_of(kind)
    found: list[tuple[bool, str, Any]] = []
    for member in map(bare, get_args(kind)):
        known = fields(member).get(name)
        if known and get_origin(known.annotation) is Literal:
            found += [(known.default != tag, tag, member) for tag in get_args(known.annotation)]
    return {tag: member for _, tag, member in sorted(found, key=lambda item: item[0])}


def default_kind(kind: Any) -> str | None:
    """What selects a section of a union when it does not say."""
    tag, member = next(iter(members(kind).items()), (None, None))
    return tag if member and fields(member)[tag_of(kind)].default == tag else None


def with_kinds(data: Any, kind: Any = Facility) -> Any:
    """The same data, every section of a union with what selects it: pydantic needs it to choose."""
    kind = bare(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(data, list) and origin is tuple:
        return [with_kinds(item, arguments[0]) for item in data]
    if not isinstance(data, dict):
        return data
    if choice := members(kind):
        tag = data.get(tag_of(kind), default_kind(kind))
        data = data if tag is None else {**data, tag_of(kind): tag}
        kind = choice.get(tag) if isinstance(tag, str) else None
    if origin is dict:
        return {key: with_kinds(value, arguments[1]) for key, value in data.items()}
    known = fields(kind)
    return {key: with_kinds(value, known[key].annotation) if key in known else value for key, value in data.items()}


def locate(loc: tuple[int | str, ...]) -> tuple[Place, Any]:
    """The place in the file, and its type, of a location as pydantic names it (it also names members of unions)."""
    if loc[-1:] == ("[key]",) and get_origin(locate(loc[:-2])[1]) is dict:
        loc = loc[:-1]
    place: Place = ()
    kind: Any = Facility
    for part in loc:
        kind = bare(kind)
        choice = members(kind)
        if part in choice:
            kind = choice[str(part)]
        elif choice:
            place, kind = (*place, part), _field_of_any(choice, part)
        elif known := fields(kind):
            place, kind = (*place, part), known[str(part)].annotation if part in known else None
        elif get_origin(kind) in {dict, tuple}:
            place, kind = (*place, part), get_args(kind)[-1 if get_origin(kind) is dict else 0]
        elif kind is None:
            place = (*place, part)
    return place, bare(kind)


def _field_of_any(choice: dict[str, Any], name: object) -> Any:
    known = [fields(member).get(str(name)) for member in choice.values()]
    return next((found.annotation for found in known if found), None)
