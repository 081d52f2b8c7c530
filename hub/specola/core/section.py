"""The base of every model that comes from facility.yaml or goes over the wire, and the types of its fields."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from specola.core.errors import StateError

SECONDS_OF = {"s": 1, "min": 60, "h": 3600, "d": 86400}
GIB_OF = {"GiB": 1.0, "TiB": 1024.0, "GB": 1e9 / 2**30, "TB": 1e12 / 2**30}
LONGEST_GROUP = 255
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,15})?) ?([A-Za-z]+)", re.ASCII)
_DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(s|min|h|d)$"
_SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(GiB|TiB|GB|TB)$"


def _quantity(value: object, units: Mapping[str, float], problem: str) -> object:
    """Convert text with a known unit; let numbers pass; refuse everything else."""
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        if match is None or match[2] not in units:
            raise PydanticCustomError("unit", problem)
        return float(match[1]) * units[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PydanticCustomError("unit", problem)
    return value


def _seconds(value: object) -> object:
    problem = "must be a duration: whole seconds, or a number with s, min, h or d, as in `30 min`"
    number = _quantity(value, SECONDS_OF, problem)
    if isinstance(number, float):
        if not number.is_integer():
            raise PydanticCustomError("unit", problem)
        return int(number)
    return number


def _gib(value: object) -> object:
    problem = "must be a size: a number of GiB, or a number with GiB, TiB, GB or TB, as in `16 GiB`"
    return _quantity(value, GIB_OF, problem)


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise PydanticCustomError("path", "must be an absolute path, as in `/etc/specola/secret`")
    return value


def _plain_group(value: str) -> str:
    if not value.strip("/ ") or value != value.strip("/ ") or not value.isprintable() or len(value) > LONGEST_GROUP:
        raise PydanticCustomError("group", "a group is written without the slash in front, as in `cms` or `cms/higgs`")
    return value


def _known_group(value: str, info: ValidationInfo) -> str:
    known = info.context.get("groups") if isinstance(info.context, Mapping) else None
    if known is not None and value not in known:
        raise PydanticCustomError("unknown_group", "unknown group", {"name": value, "allowed": sorted(known)})
    return value


_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(gt=0)]

Seconds = Annotated[
    _Count,
    BeforeValidator(_seconds, json_schema_input_type=_Count | Annotated[str, Field(pattern=_DURATION_PATTERN)]),
    Field(json_schema_extra={"x-unit": "s"}),
]
"""A duration. A facility file may also say `90 s`, `30 min`, `2 h`, `1 d`."""

GiB = Annotated[
    _Amount,
    BeforeValidator(_gib, json_schema_input_type=_Amount | Annotated[str, Field(pattern=_SIZE_PATTERN)]),
    Field(json_schema_extra={"x-unit": "GiB"}),
]
"""A size in GiB. A facility file may also say `16 GiB`, `1 TiB`, `20 GB`, `1 TB`."""

AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""A path that means the same wherever a process was started."""

GroupPath = Annotated[str, AfterValidator(_plain_group)]
"""The name of a group, `cms` or `cms/higgs`, as it is compared with what tokens say."""

GroupName = Annotated[str, AfterValidator(_known_group)]
"""A group that must be declared under `groups:` of the same facility file (checked by its loader)."""


class Section(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretRef(Section):
    """Where a secret is kept: `{file: /path}` or `{env: NAME}`; never the secret itself."""

    file: AbsolutePath | None = Field(default=None, description="file that holds it")
    env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="environment variable that holds it"
    )

    @model_validator(mode="after")
    def _one_place(self) -> SecretRef:
        if (self.file is None) == (self.env is None):
            raise ValueError("give either {file: /path} or {env: NAME}")
        return self

    def read(self) -> SecretStr:
        """The secret; StateError says which place does not hold one."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise StateError(f"environment variable {self.env} holds no secret")
            return SecretStr(value)
        try:
            return SecretStr(Path(str(self.file)).read_text().strip())
        except OSError as error:
            raise StateError(f"cannot read the secret file {self.file}: {error.strerror}") from None
