"""What may be asked of the launcher: the arguments of each verb, checked one by one."""

from __future__ import annotations

import re
from typing import Any

from specola.core.accounts import check_person
from specola.core.errors import BadInput

KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,120}")
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = frozenset({"launcher", "supervisord"})
MAX_TAIL = 256 * 1024


def key(value: object) -> str:
    """The name of a program."""
    if not isinstance(value, str) or not KEY.fullmatch(value) or value in RESERVED:
        raise BadInput("A key is 1 to 121 of the characters a-z 0-9 . _ - and starts with a letter or digit")
    return value


def prefix(value: object) -> str:
    """How keys begin; empty for all."""
    return "" if value == "" else key(value)


def text(what: str, value: object) -> str:
    """A text that the kernel takes as an argument."""
    if not isinstance(value, str):
        raise BadInput(f"{what} must be text")
    if "\0" in value:
        raise BadInput(f"{what} holds a NUL byte")
    return value


def argv(value: object) -> list[str]:
    """A command line; its program is named by an absolute path, since nobody's PATH is used."""
    if not isinstance(value, list) or not value:
        raise BadInput("argv must be a list with at least the program")
    words = [text(f"argv[{number}]", word) for number, word in enumerate(value)]
    if not words[0].startswith("/"):
        raise BadInput("argv[0] must be an absolute path")
    return words


def env(value: object) -> dict[str, str]:
    """The whole environment of a program."""
    if not isinstance(value, dict):
        raise BadInput("env must map names to texts")
    for name in value:
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            raise BadInput("env has a name that is not one of a variable")
    return {name: text(f"env {name}", content) for name, content in value.items()}


def files(value: object) -> dict[str, str]:
    """Files of a program, by plain names."""
    if not isinstance(value, dict):
        raise BadInput("files must map names to texts")
    for name, content in value.items():
        if not isinstance(name, str) or not FILE.fullmatch(name) or not isinstance(content, str):
            raise BadInput(
                "files has a name with other characters than A-Z a-z 0-9 . _ -, or a content that is not text"
            )
    return value


def directory(value: object) -> str | None:
    """Where a program starts; None for the home."""
    if value is None:
        return None
    path = text("directory", value)
    if not path.startswith("/"):
        raise BadInput("directory must be an absolute path")
    return path


def amount(what: str, value: object) -> float | None:
    """A limit; None for no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:  # noqa: PLR2004 - a PiB
        raise BadInput(f"{what} must be a positive number")
    return float(value)


def number(what: str, value: object, *, low: int, high: int) -> int:
    """A whole number between two bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadInput(f"{what} must be a whole number from {low} to {high}")
    return value


def start(ask: dict[str, Any]) -> dict[str, Any]:
    """Everything that `start` takes, checked."""
    wish = {
        "key": key(ask.pop("key", None)),
        "person": check_person(ask.pop("person", None)),
        "argv": argv(ask.pop("argv", None)),
        "env": env(ask.pop("env", None)),
        "files": files(ask.pop("files", {})),
        "directory": directory(ask.pop("directory", None)),
        "memory_gib": amount("memory_gib", ask.pop("memory_gib", None)),
        "cores": amount("cores", ask.pop("cores", None)),
        "log": None if (log := ask.pop("log", None)) is None else key(log),
    }
    nothing_more(ask)
    return wish


def nothing_more(ask: dict[str, Any]) -> None:
    """Refuse names that a verb does not take."""
    if ask:
        raise BadInput("The request holds a name that this verb does not take")
