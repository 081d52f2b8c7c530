"""The log: one line per record, the request it belongs to, and no secrets.

Every process writes `time level name [req=…] message` to standard error, which its supervisor has
redirected to a file. The request id travels in a context variable and in `X-Request-ID`.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from contextvars import ContextVar

REQUEST_ID_HEADER = "X-Request-ID"
REDACTED = "***"
SHORTEST = 6
"""A shorter value cannot be told from a word."""

request_id: ContextVar[str] = ContextVar("request_id", default="")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{4,64}")
_TOKENS = (
    (
        re.compile(r"\b(bearer|token)([ =:]+)(?=\S*[0-9_\-.])[A-Za-z0-9_\-.~+/]{12,}=*", re.IGNORECASE),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"), REDACTED),
    (
        re.compile(
            r"\b((?:access|refresh|id)_token|client_secret|password|code_verifier|code)"
            r"(['\"]?\s*[=:]\s*['\"]?)[^\s'\"&,}]{6,}",
            re.IGNORECASE,
        ),
        rf"\1\2{REDACTED}",
    ),
)
_known: set[str] = set()


def secret(value: str) -> str:
    """Register a value that must never be written; returns it, so that it can wrap a read."""
    if len(value) >= SHORTEST:
        _known.add(value)
    return value


def redact(text: str) -> str:
    """The text without anything that is, or looks like, a token."""
    for value in _known:
        text = text.replace(value, REDACTED)
    for pattern, replacement in _TOKENS:
        text = pattern.sub(replacement, text)
    return text


def new_request_id(offered: str | None = None) -> str:
    """The id that a caller offered if it is harmless, else a new one."""
    if offered and _REQUEST_ID.fullmatch(offered):
        return offered
    return secrets.token_hex(8)


class LineFormatter(logging.Formatter):
    """Formats one record as one line (tracebacks keep theirs) and redacts the whole of it."""

    converter = time.gmtime  # type: ignore[assignment]  # typeshed wants another optional argument

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(request)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        """One redacted line; a line break in a message cannot forge a second record."""
        current = request_id.get()
        record.request = f" [req={current}]" if current else ""
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line itself, before a traceback is added."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def setup(name: str, level: int = logging.INFO) -> logging.Logger:
    """Send everything this process logs to standard error, and return the process's own logger."""
    # what logging prints about its own failures is not redacted
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "tornado.access", "tornado.application", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return logging.getLogger(name)
