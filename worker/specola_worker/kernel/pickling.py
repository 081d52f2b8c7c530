"""A namespace as one file: what can be saved of it, and a reason for each name that cannot.

All variables go through one pickler, so that an optimiser and its model, restored, still share their parameters.
Functions and classes of the notebook are bound to the namespace they are restored into, as if their cells had run
there. Tensors of a GPU become tensors of the CPU; torch is asked for nothing unless the kernel has imported it.
"""

from __future__ import annotations

import io
import pickle
import sys
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import cloudpickle  # type: ignore[import-untyped]

WHY_LENGTH = 300
_target: dict[str, Any] = {}
"""the namespace that functions are bound to while it is restored"""


class NotSaved(Exception):
    """A variable is left out, with the reason as its text."""


class Bounded(io.RawIOBase):
    """A file that ends before it grows too large or takes too long."""

    def __init__(self, file: BinaryIO, limit: int, until: float) -> None:
        self.file = file
        self.limit = limit
        self.until = until

    def writable(self) -> bool:
        """It is."""
        return True

    @property
    def left(self) -> int:
        """Bytes that still fit."""
        return self.limit - self.file.tell()

    def check(self, size: int) -> None:
        """NotSaved when so many bytes more do not fit, or when there is no time."""
        if size > self.left:
            raise NotSaved(f"It would go past the limit of {self.limit / 1024**3:.3g} GiB.")
        if time.monotonic() > self.until:
            raise NotSaved("There was no time left for it.")

    def write(self, data: Any) -> int:
        """Write all of it, or raise."""
        view = memoryview(data)
        self.check(view.nbytes)
        self.file.write(view)
        return view.nbytes


def _bound(code: types.CodeType, closure: tuple[Any, ...] | None) -> types.FunctionType:
    return types.FunctionType(code, _target, None, None, closure)


class NamespacePickler(cloudpickle.Pickler):
    """Leaves the namespace itself out of the functions that refer to it, and the GPU out of tensors."""

    def __init__(self, file: Bounded, namespace: dict[str, Any]) -> None:
        super().__init__(file, protocol=5)
        self._file = file
        self._namespace = namespace

    def reducer_override(self, obj: Any) -> Any:
        """Called by pickle for each object that is no plain value."""
        torch = sys.modules.get("torch")
        # of a parameter torch makes its data and a rule: the data comes here by itself
        if torch is not None and type(obj) is torch.Tensor and obj.device.type != "cpu":
            self._file.check(obj.numel() * obj.element_size())
            return obj.detach().cpu().requires_grad_(obj.requires_grad).__reduce_ex__(5)
        return super().reducer_override(obj)

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        if func.__globals__ is not self._namespace:
            return reduced
        _, (code, *_, closure), (attributes, slots), *rest = reduced
        return (_bound, (code, closure), (attributes, {**slots, "__globals__": {}}), *rest)


class Missing:
    """Stands for a class or function that is not installed here."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Whatever it was made from."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """As of a list."""

    def extend(self, values: Any) -> None:
        """As of a list."""


class NamespaceUnpickler(pickle.Unpickler):
    """Reads on where a module is missing, and remembers which."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.missing: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        """The class or function, or a stand-in for one that is not here."""
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            self.missing.append(f"{module}.{name}")
            return Missing


def reason(error: BaseException) -> str:
    """Why, in one short line."""
    text = str(error) if isinstance(error, NotSaved) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:WHY_LENGTH]


def is_saved(name: str, hidden: Mapping[str, Any]) -> bool:
    """Whether a name is a person's variable: not one of IPython's, not one that begins with an underscore."""
    return not name.startswith("_") and name not in hidden and name not in {"In", "Out", "exit", "quit", "get_ipython"}


def dump(
    path: Path, namespace: dict[str, Any], hidden: Mapping[str, Any], *, limit: int, until: float
) -> tuple[list[str], list[dict[str, str]]]:
    """Write what can be saved: its names in their order in the file, and `{name, why}` for the rest."""
    names, failed = [], []
    with path.open("wb") as file:
        bounded = Bounded(file, limit, until)
        pickler = NamespacePickler(bounded, namespace)
        for name, value in list(namespace.items()):
            if not is_saved(name, hidden):
                continue
            at, memo = file.tell(), pickler.memo.copy()
            try:
                pickler.dump(value)
            except Exception as error:  # noqa: BLE001 - objects raise what they like when they are pickled
                failed.append({"name": name, "why": reason(error)})
                file.seek(at)
                file.truncate()
                pickler.memo = memo
            else:
                names.append(name)
    return names, failed


def load(path: Path, names: list[str], namespace: dict[str, Any]) -> tuple[list[str], list[dict[str, str]]]:
    """Put what was saved into a namespace; the names that are there now, and `{name, why}` for the rest."""
    done: list[str] = []
    failed: list[dict[str, str]] = []
    with path.open("rb") as file:
        for name, value, why in _read(file, names, namespace):
            if why:
                failed.append({"name": name, "why": why})
            else:
                namespace[name] = value
                done.append(name)
    return done, failed


def _read(file: BinaryIO, names: list[str], namespace: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    unpickler = NamespaceUnpickler(file)
    broken = ""
    for name in names:
        if broken:
            yield name, None, f"It comes after {broken}, which could not be read."
            continue
        before = len(unpickler.missing)
        try:
            value = _bind(unpickler, namespace)
        except Exception as error:  # noqa: BLE001 - objects raise what they like when they are made
            broken = name
            yield name, None, reason(error)
        else:
            missing = unpickler.missing[before:]
            yield name, value, f"Not installed here: {', '.join(missing)}." if missing else ""


def _bind(unpickler: NamespaceUnpickler, namespace: dict[str, Any]) -> Any:
    global _target  # noqa: PLW0603 - what is made while pickles are read has no other way to the namespace
    before, _target = _target, namespace
    try:
        return unpickler.load()
    finally:
        _target = before


def dump_one(value: Any, namespace: dict[str, Any]) -> bytes:
    """One object, bound to the namespace as in `dump`."""
    buffer = io.BytesIO()
    NamespacePickler(Bounded(buffer, sys.maxsize, float("inf")), namespace).dump(value)
    return buffer.getvalue()


def load_one(data: bytes, namespace: dict[str, Any]) -> Any:
    """What `dump_one` wrote."""
    return _bind(NamespaceUnpickler(io.BytesIO(data)), namespace)
