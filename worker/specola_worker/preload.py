"""Serve the HTTP side of a Dask process on a unix socket only.

`dask scheduler|worker --preload specola_worker.preload` with `SPECOLA_HTTP_SOCKET=/directory/http.sock`.
A dashboard on a TCP port answers everybody on the machine without asking who they are; the directory of a
socket is closed by its mode. Without the variable the process has no HTTP server that anybody can reach.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

import dask
from distributed.http.routing import RoutingApplication
from distributed.node import ServerNode
from tornado.httpserver import HTTPServer

VARIABLE = "SPECOLA_HTTP_SOCKET"
REQUEST = "SPECOLA_REQUEST_ID"
ROUTES = "specola_worker.routes"
OPEN_PROXY = "distributed.http.proxy"  # reaches any host and port that a URL names


def bind(path: Path) -> socket.socket:
    """A listening socket (0600) at `path`, whatever its length: the kernel takes 107 bytes, homes may be deeper."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    path.chmod(0o600)
    listener.setblocking(False)  # noqa: FBT003 - positional in the standard library
    listener.listen(128)
    return listener


def start_http_server(
    node: Any,
    routes: list[Any],
    dashboard_address: object = None,  # noqa: ARG001 - the signature is distributed's
    default_port: int = 0,  # noqa: ARG001
    ssl_options: object = None,  # noqa: ARG001
) -> None:
    """Replaces `ServerNode.start_http_server`; nothing is announced in `services`, so nobody looks for a port."""
    node.http_application = RoutingApplication(routes)
    node.http_server = HTTPServer(node.http_application)
    node.http_server.address, node.http_server.port = "", 0
    path = os.environ.get(VARIABLE)
    if path:
        node.http_server.add_socket(bind(Path(path)))


def name_request(request: str) -> None:
    """Put the id of the request that asked for this process into every line of distributed's log."""
    layout = f"%(asctime)s %(levelname)s %(name)s [req={request}] %(message)s"
    for handler in logging.getLogger("distributed").handlers:
        handler.setFormatter(logging.Formatter(layout))


def install() -> None:
    """Take TCP away from the HTTP server of every scheduler and worker of this process."""
    if os.environ.get(REQUEST):
        name_request(os.environ[REQUEST])
    ServerNode.start_http_server = start_http_server
    routes = [name for name in dask.config.get("distributed.scheduler.http.routes") if name not in (OPEN_PROXY, ROUTES)]
    dask.config.set(
        {
            "distributed.scheduler.http.routes": [*routes, ROUTES],
            # only the owner can open the socket, and their browser comes under a name that is not known here
            "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin": ["*"],
        }
    )


install()
