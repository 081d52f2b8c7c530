"""What one embedded issuer is started with, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from specola.core.layout import Layout

CLIENT_ID = "specola-hub"
CODE_LIFE = 60
REFRESH_LIFE = 30 * 86400
LOST_ANSWER_GRACE = 60
SCOPES = ("openid", "profile", "email", "offline_access", "wlcg.groups", "entitlements")


def directory(layout: Layout) -> Path:
    """Where the issuer keeps its key and its database."""
    return layout.state / "issuer"


@dataclass(frozen=True)
class IssuerSettings:
    """One issuer with its one client, the hub."""

    issuer: str
    """public URL with a trailing slash, exactly as in tokens"""
    redirect_uris: tuple[str, ...]
    client_secret: str = field(repr=False)
    client_id: str = CLIENT_ID
    access_token_life: int = 3600
    code_life: int = CODE_LIFE
    refresh_life: int = REFRESH_LIFE
    lost_answer_grace: float = LOST_ANSWER_GRACE

    @property
    def prefix(self) -> str:
        """Path under which the issuer is served, with slashes at both ends."""
        return urlsplit(self.issuer).path

    @property
    def origin(self) -> str:
        """Scheme, host and port of the public URL, as browsers write it in `Origin`."""
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://{parts.netloc}"
