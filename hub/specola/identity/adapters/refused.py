"""The page that ends a login: what is wrong, in words, and the way to another try."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyterhub.utils import url_path_join
from tornado.template import Template
from tornado.web import HTTPError

STYLE = (Path(__file__).parents[1] / "issuer" / "pages" / "style.css").read_text()
BROKEN = "The login could not be completed. Try again; if it goes on, tell the operator of this facility."
PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>No login · Specola</title>
  <style>{% raw style %}</style>
</head>
<body>
  <main>
    <header><h1>You are not logged in</h1></header>
    <p class="problem" role="alert">{{ text }}</p>
    <p><a href="{{ again }}">Log in as somebody else</a></p>
  </main>
</body>
</html>
"""
)

Raised = tuple[type[BaseException], BaseException, TracebackType]


def said(status: int, raised: Raised | None) -> str:
    """What a person may read of an error: our own refusals, and nothing of a fault inside."""
    error = raised[1] if raised else None
    if isinstance(error, HTTPError) and status != HTTPStatus.INTERNAL_SERVER_ERROR and error.log_message:
        return error.log_message % error.args if error.args else error.log_message
    return BROKEN


class RefusedPage:
    """Mixed into the hub's login handlers, whose own error page says everything twice and leads nowhere."""

    def write_error(self: Any, status_code: int, **kwargs: Any) -> None:
        """Show the refusal."""
        self.set_status(status_code)
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.set_header("Cache-Control", "no-store")
        again = url_path_join(self.hub.base_url, "login")
        self.finish(PAGE.generate(style=STYLE, text=said(status_code, kwargs.get("exc_info")), again=again))
