"""Where the worker of a kernel has to dial: this server, as it is seen from outside of the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit


def relay(api_url: str, base_url: str, environment: Mapping[str, str] = os.environ) -> str:
    """`ws(s)://…/specola/gpu/relay/`, through the facility's proxy.

    `SPECOLA_RELAY_URL` is the operator's word for sites that reach the hub under another address; else the hub's public
    URL for this server counts, else the host that the facility's API is asked at.
    """
    given = environment.get("SPECOLA_RELAY_URL") or environment.get("JUPYTERHUB_PUBLIC_URL", "")
    public = urlsplit(given)
    api = urlsplit(api_url)
    host, scheme = (public.netloc, public.scheme) if public.netloc else (api.netloc, api.scheme)
    path = public.path if public.netloc and public.path.strip("/") else base_url
    secure = scheme in {"https", "wss"}
    return urlunsplit(("wss" if secure else "ws", host, f"{path.rstrip('/')}/specola/gpu/relay/", "", ""))
