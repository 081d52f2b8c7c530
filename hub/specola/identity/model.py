"""The nouns of identity and its section of facility.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from specola.core.section import GroupPath, Seconds, SecretRef, Section


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
    groups: tuple[GroupPath, ...] = Field(default=(), description="groups in the token, without leading slash")


DEFAULT_PEOPLE = (DemoPerson(name="anna", full_name="Anna Rossi", groups=("physics",)),)


def _different(people: tuple[DemoPerson, ...]) -> tuple[DemoPerson, ...]:
    if len({person.name for person in people}) < len(people):
        raise ValueError("two people have the same login name")
    return people


RecheckInterval = Annotated[
    Seconds, Field(ge=5, description="how often everybody with a server or a cluster is looked up at the issuer")
]
OutageGrace = Annotated[Seconds, Field(description="how long a session outlives an issuer that does not answer")]


class EmbeddedIdentity(Section):
    """An OpenID Connect issuer of our own, for one machine."""

    kind: Literal["embedded"] = "embedded"
    people: Annotated[tuple[DemoPerson, ...], AfterValidator(_different)] = Field(
        default=DEFAULT_PEOPLE, description="who may log in"
    )
    access_token_life: Seconds = Field(default=3600, ge=5, description="life of an access token")
    outage_grace: OutageGrace = 86400
    recheck_interval: RecheckInterval = 900


LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
IAM_SCOPES = ("openid", "profile", "email", "offline_access", "wlcg.groups")


def _issuer_url(value: str) -> str:
    """Keep the text as it is: issuers are compared character by character, trailing slash included."""
    parts = urlsplit(value)
    if not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("give the issuer's URL, without query, fragment or user, such as https://iam.example.org/")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError("the issuer must be reached over https (http is for this machine's own loopback only)")
    return value


IssuerUrl = Annotated[str, AfterValidator(_issuer_url), Field(json_schema_extra={"format": "uri"})]


class IamIdentity(Section):
    """INDIGO IAM, or any issuer that speaks OpenID Connect discovery."""

    kind: Literal["iam", "oidc"]
    issuer: IssuerUrl = Field(description="issuer URL, exactly as in its discovery document")
    client_id: str = Field(description="of the client registered for this hub")
    client_secret: SecretRef = Field(description="where the client secret is kept")
    scopes: tuple[str, ...] = Field(default=IAM_SCOPES, description="scopes to ask for")
    username_claim: str = Field(default="preferred_username", description="claim that becomes the login name")
    outage_grace: OutageGrace = 86400
    recheck_interval: RecheckInterval = 900


IdentitySection = Annotated[EmbeddedIdentity | IamIdentity, Field(discriminator="kind")]


@dataclass(frozen=True)
class IdentitySettings:
    """What the authenticator needs to know of one facility."""

    issuer: str
    """exactly as in the issuer's discovery document and tokens"""
    client_id: str
    client_secret: str = field(repr=False)
    callback_url: str
    database: Path
    """SQLite file that holds the table `people`"""
    groups: Mapping[str, tuple[Sequence[Role], Sequence[str]]]
    """declared group: the roles that it gives, and our own roster of its members"""
    back_channel: str | None = None
    """prefix by which this machine reaches the issuer, instead of the issuer's public URL"""
    known_as: str | None = None
    """what people are remembered under instead of the issuer's URL, where that URL may change with a port"""
    scopes: Sequence[str] = IAM_SCOPES
    username_claim: str = "preferred_username"
    outage_grace: int = 86400
    """seconds that a session outlives the last confirmation by the issuer"""
    recheck_interval: float = 900
    """seconds between two looks at everybody who has something running"""
    on_revoked: str | None = None
    """URL of the service's seam for clusters: GET lists the people with a cluster, POST {name} stops theirs"""
    on_revoked_token: str = field(default="", repr=False)
