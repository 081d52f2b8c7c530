"""The hub's last word about a token, for as long as the hub does not answer (tested against JupyterHub 6.1.1).

A server asks the hub about a token every few seconds, so that a deleted one is refused soon. A hub that is being
restarted has deleted none: whoever was in goes on, instead of meeting errors while they save a notebook.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from tornado.web import HTTPError

GRACE = 300.0


def outlast(auth: Any, *, grace: float = GRACE, clock: Callable[[], float] = time.monotonic) -> None:
    """Make a `HubAuth` repeat what the hub last said about a token while the hub itself says nothing."""
    ask = auth.user_for_token
    known: dict[str, tuple[float, Any]] = {}

    async def remembering(token: str, use_cache: bool, session_id: str) -> Any:  # noqa: FBT001 - handed through
        key = hashlib.sha256(f"{session_id}:{token}".encode(errors="replace")).hexdigest()
        try:
            user = await ask(token, use_cache, session_id, sync=False)
        except HTTPError:
            when, user = known.get(key, (0.0, None))
            if user is None or clock() - when > grace:
                raise
            return user
        for old in [name for name, (when, _) in known.items() if clock() - when > grace]:
            del known[old]
        known[key] = (clock(), user)
        return user

    def user_for_token(token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True) -> Any:  # noqa: FBT001, FBT002 - the signature is JupyterHub's
        return ask(token, use_cache, session_id) if sync else remembering(token, use_cache, session_id)

    auth.user_for_token = user_for_token
