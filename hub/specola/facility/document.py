"""facility.yaml as text: what it says, and on which line it says it.

The part of YAML that is read is what JSON can say, with comments: no anchors, no merge keys, no tags, one document,
every key once. Booleans are `true` and `false` only and numbers are decimal, as in YAML 1.2, so that `no`, `1:30`
and `010` stay the text that was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

Place = tuple[str | int, ...]

_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
DEEPEST = 40
_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, tuple[re.Pattern[str], str, Callable[[str], Any]]] = {
    "null": (re.compile(r"~|null|Null|NULL|"), "~nN\0", lambda _: None),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF", lambda text: text.lower() == "true"),
    "int": (re.compile(r"[-+]?[0-9]{1,18}"), "-+0123456789", int),
    "float": (
        re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?"),
        "-+.0123456789",
        float,
    ),
}


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong, where; `text` never holds what a secret field holds."""

    line: int
    place: Place
    text: str


@dataclass
class Document:
    """What the text says, as JSON knows it, and the line of every key and item."""

    data: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest place around it that is written down."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that is well formed, and not used here."""


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with the scalars above, and without anchors or bottomless nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it out
        if event.anchor is not None:
            raise _RefusedError(
                problem="anchors and aliases are not used here; write the value out", problem_mark=event.start_mark
            )
        if self.depth > DEEPEST:
            raise _RefusedError(problem="nested too deeply", problem_mark=event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first, _) in _SCALARS.items():
    _whole = re.compile(rf"(?:{_pattern.pattern})\Z")
    _Loader.add_implicit_resolver(_TAG + _name, _whole, ["" if c == "\0" else c for c in _first])


def read(text: str) -> Document:
    """Read one document; what is wrong with it as YAML is among its complaints."""
    document = Document()
    try:
        node = _compose(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.complaints.append(Complaint(line, (), "a character that no text file holds"))
        return document
    except yaml.MarkedYAMLError as error:
        # what was never closed is found at the end, and wrong where it begins
        unclosed = "<stream end>" in (error.problem or "")
        mark = error.context_mark if unclosed and error.context_mark else error.problem_mark
        document.complaints.append(Complaint(mark.line + 1 if mark else 1, (), _in_words(error)))
        return document
    if node is not None:
        document.lines[()] = node.start_mark.line + 1
        document.data = _value(node, (), document)
    return document


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    except (ValueError, OverflowError):
        # PyYAML hands the number of an escape such as "\UFFFFFFFF" to chr() unchecked
        raise _RefusedError(problem="an escape that is no character", problem_mark=loader.get_mark()) from None
    finally:
        loader.dispose()
    return node


def _in_words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be read"
    if isinstance(error, _RefusedError):
        return problem
    if "\\t" in problem:
        return "a tab cannot indent; use spaces"
    if "single document" in (error.context or ""):
        return "one document only; `---` may not come twice"
    # what PyYAML quotes may be half of a secret; what it calls '<...>' is a kind of token
    return "not YAML: " + _QUOTED.sub(_one_sign, problem)


def _one_sign(quoted: re.Match[str]) -> str:
    return quoted[0] if len(quoted[0]) <= len("','") or quoted[0].startswith("'<") else "this"


def _value(node: yaml.Node, place: Place, document: Document) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(node, place, document)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return _items(node, place, document)
    if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in {"str", *_SCALARS}:
        return _scalar(node, place, document)
    document.complaints.append(Complaint(node.start_mark.line + 1, place, "tags (`!…`) are not used here"))
    return None


def _mapping(node: yaml.MappingNode, place: Place, document: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.complaints.append(Complaint(line, place, "a key must be a single word"))
            continue
        key = _text(key_node, place, document)
        if key == "<<":
            document.complaints.append(Complaint(line, place, "merge keys (`<<`) are not used here; write them out"))
            continue
        here = (*place, key)
        if key in result:
            first = document.lines[here]
            document.complaints.append(Complaint(line, here, f"written twice; the first is on line {first}"))
            continue
        document.lines[here] = line
        result[key] = _value(value_node, here, document)
    return result


def _items(node: yaml.SequenceNode, place: Place, document: Document) -> list[Any]:
    result = []
    for index, item in enumerate(node.value):
        here = (*place, index)
        document.lines[here] = item.start_mark.line + 1
        result.append(_value(item, here, document))
    return result


def _scalar(node: yaml.ScalarNode, place: Place, document: Document) -> Any:
    kind = node.tag.removeprefix(_TAG)
    if kind in _SCALARS:
        pattern, _, convert = _SCALARS[kind]
        if pattern.fullmatch(node.value):
            value = convert(node.value)
            if not isinstance(value, float) or math.isfinite(value):
                return value
    return _text(node, place, document)


def _text(node: yaml.ScalarNode, place: Place, document: Document) -> str:
    text: str = node.value
    if any("\ud800" <= character <= "\udfff" for character in text):
        document.complaints.append(Complaint(node.start_mark.line + 1, place, "half of a surrogate pair"))
        return ""
    return text
