"""What the handlers share: who may ask, and how they say no."""

from __future__ import annotations

import json
import re
import uuid
from http import HTTPStatus
from typing import Any

from jupyter_server.base.handlers import APIHandler

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class SpecolaHandler(APIHandler):
    """Answers errors as RFC 9457 problem documents and carries a request id.

    Not counted as activity: a panel that polls must not keep an idle server alive.
    """

    _track_activity = False
    auth_resource = "specola"

    def initialize(self) -> None:
        """Take the caller's request id when it looks like one, else make one."""
        given = self.request.headers.get("X-Request-ID", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.set_header("X-Request-ID", self.request_id)

    def problem(self, status: int, title: str, detail: str = "", reason: str = "") -> None:
        """Finish with a problem document."""
        document = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": detail,
            "reason": reason or HTTPStatus(status).name.lower(),
            "request_id": self.request_id,
        }
        self.set_status(status)
        self.finish(json.dumps(document), set_content_type="application/problem+json")

    def write_error(self, status_code: int, **_: Any) -> None:
        """Name the status and nothing of what was sent."""
        self.clear_header("Content-Length")
        self.set_header("X-Request-ID", self.request_id)
        self.problem(status_code, HTTPStatus(status_code).phrase)
