"""Read facility.yaml: either a Facility, or every complaint about the file at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from specola.core.errors import FacilityError
from specola.facility.complaints import from_validation, secrets_in_clear, shown
from specola.facility.document import Complaint, Document, read
from specola.facility.model import Facility
from specola.facility.pools import misfits
from specola.facility.shape import with_kinds


def load(path: Path) -> Facility:
    """The facility that a file describes; FacilityError carries `file:line: path: text` for all that is wrong."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise FacilityError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FacilityError([f"{path}:{line}: not UTF-8 text"]) from None
    return load_text(text, str(path))


def load_text(text: str, name: str) -> Facility:
    """As `load`, for text that has been read already; `name` stands for the file in complaints."""
    document = read(text)
    facility, found = _validate(document)
    complaints = document.complaints + found
    if facility is None or complaints:
        raise FacilityError([_line(name, complaint) for complaint in _in_order(complaints)])
    return facility


def _validate(document: Document) -> tuple[Facility | None, list[Complaint]]:
    """Strict as JSON: a number is a number, text is text."""
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        return None, [Complaint(1, (), "must be a mapping of keys, as in `name: specola`")]
    clear = list(secrets_in_clear(data, document))
    try:
        text = json.dumps(with_kinds(data))
        facility = Facility.model_validate_json(text, strict=True, context={"groups": _groups(data)})
    except ValidationError as error:
        return None, clear + list(from_validation(error, document))
    return facility, clear + list(misfits(facility, document))


def _groups(data: dict[str, Any]) -> set[str]:
    groups = data.get("groups", Facility().groups)
    return set(groups) if isinstance(groups, dict) else set()


def _in_order(complaints: list[Complaint]) -> list[Complaint]:
    """By line, one for each place: what follows from a complaint about the same place is noise."""
    first: dict[object, Complaint] = {}
    for complaint in complaints:
        first.setdefault(complaint.place or complaint, complaint)
    return sorted(first.values(), key=lambda complaint: complaint.line)


def _line(name: str, complaint: Complaint) -> str:
    place = shown(complaint.place)
    where = f"{name}:{complaint.line}: "
    return f"{where}{place}: {complaint.text}" if place else where + complaint.text
