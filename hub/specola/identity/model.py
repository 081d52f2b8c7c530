"""The nouns of identity and its section of facility.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field

from specola.core.section import Seconds, SecretRef, Section


class Role(StrEnum):
    """What somebody may do; held through a group."""

    USER = "user"
    INSTRUCTOR = "instructor"
    ACCOUNTANT = "accountant"
    ADMIN = "admin"


class DemoPerson(Section):
    """A person whom the embedded issuer knows. The password is made at the first start."""

    name: str = Field(description="login name", pattern=r"^[a-z][a-z0-9._-]{0,31}$")
    full_name: str = Field(description="as shown")
    groups: tuple[str, ...] = Field(default=(), description="groups in the token, without leading slash")


DEFAULT_PEOPLE = (DemoPerson(name="anna", full_name="Anna Rossi", groups=("physics",)),)


class EmbeddedIdentity(Section):
    """An OpenID Connect issuer of our own, for one machine."""

    kind: Literal["embedded"] = "embedded"
    people: tuple[DemoPerson, ...] = Field(default=DEFAULT_PEOPLE, description="who may log in")
    access_token_life: Seconds = Field(default=3600, ge=5, description="life of an access token")


class IamIdentity(Section):
    """INDIGO IAM, or any issuer that speaks OpenID Connect discovery."""

    kind: Literal["iam", "oidc"]
    issuer: AnyHttpUrl = Field(description="issuer URL, exactly as in its discovery document")
    client_id: str = Field(description="of the client registered for this hub")
    client_secret: SecretRef = Field(description="where the client secret is kept")
    scopes: tuple[str, ...] = Field(
        default=("openid", "profile", "email", "offline_access", "wlcg.groups"), description="scopes to ask for"
    )
    username_claim: str = Field(default="preferred_username", description="claim that becomes the login name")
    outage_grace: Seconds = Field(
        default=86400, description="how long a session outlives an issuer that does not answer"
    )


IdentitySection = Annotated[EmbeddedIdentity | IamIdentity, Field(discriminator="kind")]
