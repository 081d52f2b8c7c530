"""What a person reads when a login ends."""

from __future__ import annotations

import pytest
from specola.identity.adapters.refused import BROKEN, said
from tornado.web import HTTPError


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (403, HTTPError(403, "You are not in a group."), "You are not in a group."),
        (400, HTTPError(400, "No %s.", "state"), "No state."),
        (403, HTTPError(403), BROKEN),
        (500, HTTPError(500, "inside"), BROKEN),
        (500, ValueError("inside"), BROKEN),
    ],
)
def test_our_refusals_are_read_and_faults_inside_are_not(status: int, error: Exception, text: str) -> None:
    assert said(status, (type(error), error, None)) == text  # type: ignore[arg-type]


def test_without_an_error_it_is_broken() -> None:
    assert said(500, None) == BROKEN
