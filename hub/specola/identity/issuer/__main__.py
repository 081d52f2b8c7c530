"""`python -m specola.identity.issuer --url PUBLIC --port N --redirect URI`: serve the embedded issuer."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence

from specola.core import log
from specola.core.layout import layout_from_environment
from specola.identity.issuer.app import build, serve
from specola.identity.issuer.handlers import Issuer
from specola.identity.issuer.settings import IssuerSettings, directory


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m specola.identity.issuer")
    parser.add_argument("--url", required=True, help="public URL with a trailing slash, as in tokens")
    parser.add_argument("--port", required=True, type=int, help="loopback port to listen on")
    parser.add_argument("--redirect", required=True, help="the hub's callback URL")
    parser.add_argument("--access-token-life", type=int, default=3600, help="seconds")
    given = parser.parse_args(arguments)
    log.setup("issuer")
    layout = layout_from_environment()
    settings = IssuerSettings(
        issuer=given.url,
        redirect_uris=(given.redirect,),
        client_secret=layout.secret("issuer-client"),
        access_token_life=given.access_token_life,
    )
    issuer = build(settings, directory(layout))
    try:
        asyncio.run(_serve_until_told(issuer, given.port))
    finally:
        issuer.store.close()


async def _serve_until_told(issuer: Issuer, port: int) -> None:
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server = serve(issuer, port)
    await told.wait()
    server.stop()
    await server.close_all_connections()


if __name__ == "__main__":
    main()
