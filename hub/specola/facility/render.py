"""What is derived from a facility, as people may look at it: no secret is ever read for it."""

from __future__ import annotations

import dataclasses
import secrets
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from specola.core.errors import StateError
from specola.core.layout import Layout
from specola.core.section import SecretRef
from specola.facility.model import Facility
from specola.facility.runtime import Addresses, Ports, Runtime, addresses_file

FIRST_PORT = 8000
"""of the addresses that are shown for a facility that was never started"""


def schema() -> dict[str, Any]:
    """JSON Schema of facility.yaml, for editors and for the values of a chart."""
    own = Facility.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_standard(own), "title": "facility.yaml"}


def config(runtime: Runtime) -> dict[str, Any]:
    """JupyterHub's configuration, class → trait → value."""
    from specola.facility.hub_config import configure

    veil = _Veil()
    shown: dict[str, Any] = veil.over(configure(veil.runtime(runtime)))
    return shown


def processes(runtime: Runtime) -> list[dict[str, Any]]:
    """The process table."""
    from specola.facility.processes import table

    veil = _Veil()
    shown: list[dict[str, Any]] = veil.over(table(veil.runtime(runtime)))
    return shown


def runtime_of(facility: Facility, layout: Layout) -> Runtime:
    """The runtime of a facility with the addresses of its last start, or with examples where there was none."""
    try:
        addresses = Addresses.model_validate_json(addresses_file(layout).read_text())
    except FileNotFoundError:
        ports = {name: FIRST_PORT + number for number, name in enumerate(Ports.model_fields)}
        addresses = Addresses(
            ports=Ports(**ports),
            public_url=f"http://127.0.0.1:{FIRST_PORT}/",
            env=Path(sys.prefix),
            separate_accounts=False,
        )
    except OSError as error:
        raise StateError(f"cannot read {addresses_file(layout)}: {error.strerror}") from None
    return Runtime(layout, facility, addresses)


def _standard(node: Any) -> Any:
    """Without what pydantic leaves behind where a limit lies inside of a conversion."""
    if isinstance(node, dict):
        return {
            key: _standard(value)
            for key, value in node.items()
            if not (key in {"ge", "gt"} and isinstance(value, int | float))
        }
    return [_standard(item) for item in node] if isinstance(node, list) else node


class _Veil:
    """Gives out random text in place of secrets, and finds that text again in what was made with it."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def stand_in(self, name: str) -> str:
        """64 hexadecimal digits, which serve as any of the facility's secrets."""
        text = secrets.token_hex(32)
        self._names[text] = f"<secret: {name}>"
        return text

    def runtime(self, runtime: Runtime) -> Runtime:
        """The same runtime, with stand-ins wherever a secret would be read."""
        facility: Facility = self._model(runtime.facility)
        return Runtime(_VeiledLayout(runtime.layout.state, self), facility, runtime.addresses)

    def _model(self, value: Any) -> Any:
        if isinstance(value, SecretRef):
            return _VeiledRef.model_construct(file=value.file, env=value.env).veiled(self)
        if isinstance(value, BaseModel):
            return value.model_copy(
                update={name: self._model(getattr(value, name)) for name in type(value).model_fields}
            )
        if isinstance(value, dict):
            return {key: self._model(item) for key, item in value.items()}
        return value

    def over(self, value: Any) -> Any:  # noqa: PLR0911 - one for each type
        """Plain data for printing, every stand-in by its name."""
        match value:
            case bytes():
                return self._named(value.hex())
            case Enum():
                return value.value
            case str() | Path():
                return self._named(str(value))
            case None | bool() | int() | float():
                return value
            case Mapping():
                return {str(self.over(key)): self.over(item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.over(item) for item in value]
        if dataclasses.is_dataclass(value):
            return {field.name: self.over(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return f"<{value.__module__}.{value.__qualname__}>" if callable(value) else f"<{type(value).__qualname__}>"

    def _named(self, text: str) -> str:
        for stand_in, name in self._names.items():
            text = text.replace(stand_in, name)
        return text


class _VeiledLayout(Layout):
    """The layout of a facility whose secrets stay closed."""

    def __init__(self, state: Path, veil: _Veil) -> None:
        super().__init__(state)
        object.__setattr__(self, "_veil", veil)

    def secret(self, name: str) -> str:
        stand_in: str = object.__getattribute__(self, "_veil").stand_in(name)
        return stand_in


class _VeiledRef(SecretRef):
    """A reference that is not followed."""

    def veiled(self, veil: _Veil) -> _VeiledRef:
        """Remember what stands in for the secret."""
        place = f"file {self.file}" if self.file else f"env {self.env}"
        object.__setattr__(self, "_text", veil.stand_in(place))
        return self

    def read(self) -> SecretStr:
        return SecretStr(object.__getattribute__(self, "_text"))
