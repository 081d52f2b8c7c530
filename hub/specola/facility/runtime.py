"""One running facility: the document, where it lies, and the addresses that were chosen for it."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from specola.core.errors import StateError
from specola.core.layout import Layout, layout_from_environment
from specola.core.section import Section
from specola.facility.loader import load_text
from specola.facility.model import Facility


class Ports(Section):
    """Loopback ports; `proxy` is the one that browsers use."""

    proxy: int
    proxy_api: int
    hub: int
    service: int
    issuer: int
    gateway: int
    gateway_proxy: int
    gateway_tcp: int


class Addresses(Section):
    """Chosen once at the first start and kept in `runtime.json`, so that a restart finds what still runs."""

    ports: Ports
    public_url: str = Field(
        description="as browsers reach it, with a trailing slash", pattern=r"^https?://[A-Za-z0-9.:\[\]-]+/$"
    )
    env: Path = Field(description="the environment (prefix) of processes and user servers")
    separate_accounts: bool = Field(description="each person's programs run under an account of their own")


class Runtime:
    """What every process of a facility is configured from."""

    def __init__(self, layout: Layout, facility: Facility, addresses: Addresses) -> None:
        self.layout = layout
        self.facility = facility
        self.addresses = addresses

    @property
    def ports(self) -> Ports:
        """Loopback ports of the processes."""
        return self.addresses.ports

    @property
    def homes(self) -> Path:
        """Directory of the homes."""
        return self.facility.homes.path or self.layout.homes

    @property
    def public_url(self) -> str:
        """As browsers reach the facility, with a trailing slash."""
        return self.addresses.public_url

    @property
    def service_url(self) -> str:
        """Loopback URL of the API service, under the prefix that it has in public."""
        return f"http://127.0.0.1:{self.ports.service}/services/specola/"

    @property
    def hub_api_url(self) -> str:
        """Loopback URL of JupyterHub's REST API."""
        return f"http://127.0.0.1:{self.ports.hub}/hub/api"

    @property
    def issuer_url(self) -> str:
        """Public URL of the embedded issuer, exactly as in its tokens."""
        return f"{self.public_url}services/issuer/"

    @property
    def issuer_back_channel(self) -> str:
        """The same issuer as this machine's own processes reach it."""
        return f"http://127.0.0.1:{self.ports.issuer}/services/issuer/"


def addresses_file(layout: Layout) -> Path:
    """Where the chosen addresses are kept."""
    return layout.state / "runtime.json"


def read_own(path: Path) -> str | None:
    """A file that root or this account wrote; None when it is not there.

    Root trusts only root's: the directory belongs to the account of the processes, and what stands in the
    facility file decides what root does.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor) as file:
        if os.fstat(descriptor).st_uid not in {0, os.geteuid()}:
            raise StateError(f"{path} was not written by `specola up`: remove it, and give --facility FILE")
        return file.read()


def load_runtime(layout: Layout | None = None) -> Runtime:
    """The runtime of the facility whose process this is (`SPECOLA_STATE`), or of another layout."""
    layout = layout or layout_from_environment()
    addresses, facility = read_own(addresses_file(layout)), read_own(layout.facility_file)
    if addresses is None or facility is None:
        raise StateError(f"there is no facility in {layout.state}: start one with `specola up`")
    return Runtime(layout, load_text(facility, str(layout.facility_file)), Addresses.model_validate_json(addresses))
