"""The facility's API for a kernel: synchronous, no dependency beyond the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from typing import Any

from specola_lab import settings

SECONDS = 60


class FacilityError(RuntimeError):
    """What the facility refused, and what to do about it. `status` is that of the answer, 0 for none."""

    goes_on = "What runs goes on"

    def __init__(self, title: str, detail: str = "", status: int = 0, request_id: str = "") -> None:
        super().__init__(": ".join(part for part in (title.rstrip("."), detail) if part))
        self.title = title
        self.detail = detail
        self.status = status
        self.request_id = request_id


class ScaleoutError(FacilityError):
    """About Dask clusters."""

    goes_on = "Your clusters go on"


class GpuError(FacilityError):
    """About GPUs: what cannot be done here, and where it can."""

    goes_on = "Your leases go on"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api:
    """Requests with the token of the server that this kernel runs in."""

    def __init__(self, error: type[FacilityError] = ScaleoutError) -> None:
        self._error = error
        self._settings = settings.from_environment()
        if not self._settings.is_complete:
            raise error(
                "This Python was not started by a facility",
                "SPECOLA_API_URL and JUPYTERHUB_API_TOKEN are set in the notebooks and terminals of its servers.",
            )
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def get(self, path: str) -> Any:
        """Read."""
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Make or act."""
        return self._ask("POST", path, json.dumps(body).encode())

    def delete(self, path: str) -> Any:
        """End."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        request_id = uuid.uuid4().hex
        headers = {
            "Authorization": f"token {self._settings.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": request_id,
            "X-Request-ID": request_id,
        }
        request = urllib.request.Request(  # noqa: S310 - the address is the facility's own
            self._settings.api_url + path, body, headers, method=method
        )
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read(), request_id) from None
        except (OSError, TimeoutError):
            raise self._error(
                "The facility service does not answer",
                f"It is being restarted, or the network is cut. {self._error.goes_on}; try again.",
                request_id=request_id,
            ) from None
        return json.loads(text) if text else None

    def _refusal(self, status: int, body: bytes, request_id: str) -> FacilityError:
        try:
            problem = json.loads(body)
            return self._error(problem["title"], problem.get("detail", ""), status, request_id)
        except (ValueError, KeyError, TypeError):
            return self._error(f"The facility answered {status}", f"Request id {request_id}.", status, request_id)
