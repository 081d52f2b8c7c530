"""The issuer as one tornado application."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.ioloop import PeriodicCallback

from specola.identity.issuer import accounts
from specola.identity.issuer.grants import Grants
from specola.identity.issuer.handlers import Discovery, Health, Issuer, Jwks, NotFound, Token, Userinfo
from specola.identity.issuer.keys import load_or_make
from specola.identity.issuer.limiter import Limiter
from specola.identity.issuer.login import Authorize, Style
from specola.identity.issuer.settings import IssuerSettings
from specola.identity.issuer.store import Store
from specola.identity.issuer.tokens import Mint

log = logging.getLogger("specola.issuer")

LARGEST_REQUEST = 64 * 1024
PURGE_MS = 600_000

ROUTES = {
    r"\.well-known/openid-configuration": Discovery,
    "jwk": Jwks,
    "authorize": Authorize,
    "style.css": Style,
    "token": Token,
    "userinfo": Userinfo,
    "healthz": Health,
}


def build(settings: IssuerSettings, place: Path) -> Issuer:
    """An issuer whose files are in this directory."""
    store = Store(place / accounts.DATABASE)
    mint = Mint(settings, load_or_make(place / "key.pem"))
    return Issuer(settings, store, mint, Grants(settings, store, mint), Limiter())


def application(issuer: Issuer) -> web.Application:
    """The routes, all under the path of the public URL."""
    values = {"issuer": issuer}
    routes: list[Any] = [(issuer.settings.prefix + path, handler, values) for path, handler in ROUTES.items()]
    return web.Application(
        routes, default_handler_class=NotFound, default_handler_args=values, log_function=log_request
    )


def serve(issuer: Issuer, port: int) -> HTTPServer:
    """Listen on this loopback port; only the proxy of this machine is before us, so its headers are believed."""
    server = HTTPServer(application(issuer), xheaders=True, max_body_size=LARGEST_REQUEST)
    server.listen(port, "127.0.0.1")
    PeriodicCallback(lambda: purge(issuer), PURGE_MS, jitter=0.1).start()
    return server


def purge(issuer: Issuer) -> None:
    """Forget what has expired."""
    issuer.store.purge(time.time())


def log_request(handler: web.RequestHandler) -> None:
    """One line for each answer, without the query: it holds state and nonce of a login."""
    request = handler.request
    level = logging.WARNING if handler.get_status() >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
    log.log(level, "%s %s %s %.1f ms", handler.get_status(), request.method, request.path, 1e3 * request.request_time())
