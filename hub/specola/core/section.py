"""The base of every model that comes from facility.yaml or goes over the wire."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from specola.core.errors import StateError

Seconds = Annotated[int, Field(ge=0, json_schema_extra={"unit": "s"})]
GiB = Annotated[float, Field(gt=0, json_schema_extra={"unit": "GiB"})]


class Section(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretRef(Section):
    """Where a secret is kept: `{file: /path}` or `{env: NAME}`; never the secret itself."""

    file: Path | None = None
    env: str | None = None

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
