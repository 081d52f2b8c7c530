"""What is wrong with a facility file, in words: where, what, what is allowed, and perhaps what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from specola.core.section import SecretRef
from specola.facility.document import Complaint, Document, Place
from specola.facility.shape import fields, locate, members, tag_of

IN_CLEAR = "a secret is given by reference only: {file: /path} or {env: NAME}"
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:secret|secret_key|access_key|private_key|api_key|crypt_key|token|passwd|password|passphrase)s?$",
    re.IGNORECASE,
)
_CREDENTIALS_IN_URL = re.compile(r"://[^/?#@\s]*:[^/?#@\s]+@")
_SHORT = re.compile(r"[\w .:/+-]{1,40}")
_KEY = re.compile(r"[!-~]{1,60}")
_EMPTY = "is empty (leave it out for the defaults); "
_WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of keys to values",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list, as in [a, b]",
    "missing": "is required",
    "model_attributes_type": "must be a mapping",
    "model_type": "must be a mapping",
    "path_type": "must be a path",
    "string_type": "must be text (a number, true or false as text needs quotes)",
    "tuple_type": "must be a list, as in [a, b]",
    "url_parsing": "must be a URL, as in https://iam.example.org/",
    "url_scheme": "must be a URL that begins with http:// or https://",
    "url_type": "must be a URL, as in https://iam.example.org/",
}


def from_validation(error: ValidationError, document: Document) -> Iterator[Complaint]:
    """The complaints of pydantic, in our words."""
    for detail in error.errors(include_url=False):
        place, kind = locate(detail["loc"])
        _, parent = locate(detail["loc"][:-1])
        secret = _secret_in(place)
        if secret is not None:
            yield Complaint(document.line(secret), secret, IN_CLEAR)
            continue
        if detail["type"].startswith("union_tag"):
            place = (*place, tag_of(kind))
        yield Complaint(document.line(place), place, _text(detail, place, parent, kind))


def secrets_in_clear(data: Any, document: Document, place: Place = ()) -> Iterator[Complaint]:
    """Values that look like a secret where the model would take any text, the escape hatch above all."""
    if isinstance(data, dict):
        for key, value in data.items():
            here = (*place, key)
            if is_secret(key) and value and not isinstance(value, bool | int | float | dict):
                yield Complaint(document.line(here), here, IN_CLEAR)
            else:
                yield from secrets_in_clear(value, document, here)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from secrets_in_clear(value, document, (*place, index))
    elif isinstance(data, str) and _CREDENTIALS_IN_URL.search(data):
        yield Complaint(document.line(place), place, "a URL may not carry a password")


def is_secret(name: object) -> bool:
    """Whether the name of a key says that its value is a secret."""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def shown(place: Place) -> str:
    """A place as people write it, `groups.cms.roles[0]`; nothing below a secret is part of it."""
    secret = _secret_in(place)
    text = ""
    for part in secret or place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _KEY.fullmatch(part) else "…")
    return text


def _secret_in(place: Place) -> Place | None:
    """The part of a place that ends at a secret, if it goes through one."""
    for end, part in enumerate(place, 1):
        if is_secret(part) or locate(place[:end])[1] is SecretRef:
            return place[:end]
    return None


def _text(detail: ErrorDetails, place: Place, parent: Any, kind: Any) -> str:
    context, code = detail.get("ctx", {}), detail["type"]
    if code in {"extra_forbidden", "unknown_group", "union_tag_invalid", "enum", "literal_error"}:
        return _not_among(detail, place, parent)
    if code == "union_tag_not_found":
        return f"is required; allowed: {', '.join(members(kind))}"
    text = _WORDS.get(code, detail["msg"].replace("Input should be", "must be"))
    if code == "value_error":
        text = str(context["error"])
    elif code == "string_pattern_mismatch":
        text = f"must match {context['pattern']}"
    if code in {"missing", "string_pattern_mismatch", "dict_type"}:
        text += _described(parent, place)
    elif keys := fields(kind):
        text += f"; allowed keys: {', '.join(keys)}"
    return _EMPTY + text if detail.get("input") is None else text


def _not_among(detail: ErrorDetails, place: Place, parent: Any) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return unknown("key", place[-1], list(fields(parent)))
        case "unknown_group":
            return unknown("group", context["name"], context["allowed"], quote=True)
        case "union_tag_invalid":
            return unknown(str(place[-1]), context["tag"], _quoted(context["expected_tags"]), quote=True)
    return unknown("value", detail["input"], _quoted(context["expected"]), quote=True)


def unknown(what: str, given: object, allowed: list[str], *, quote: bool = False) -> str:
    """A name that is none of those allowed, and which of them was perhaps meant."""
    name = given if isinstance(given, str) and _SHORT.fullmatch(given) else ""
    near = difflib.get_close_matches(name.lower(), [word.lower() for word in allowed], n=1, cutoff=0.6)
    meant = next((word for word in allowed if near and word.lower() == near[0]), None)
    text = f"unknown {what}" + (f" `{name}`" if quote and name else "")
    text += f" (did you mean `{meant}`?)" if meant else ""
    return f"{text}; allowed: {', '.join(allowed) or 'none'}"


def _described(parent: Any, place: Place) -> str:
    known = fields(parent).get(str(place[-1])) if place else None
    return f": {known.description}" if known and known.description else ""


def _quoted(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)
