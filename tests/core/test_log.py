"""The log shows what happened, in one line each, and never a secret."""

from __future__ import annotations

import logging
import re

import pytest
from specola.core import log

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJl"


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> object:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def write(text: str, *args: object, **more: object) -> str:
        log.setup("service").warning(text, *args, **more)  # type: ignore[arg-type]
        return capsys.readouterr().err

    yield write
    logging.raiseExceptions = True
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdef-1234567890",
        "Authorization: token 0a1b2c3d4e5f60718293",
        f"got {JWT} from the issuer",
        "refresh_token=abcdef123456&x=1",
        '{"access_token": "abcdef123456"}',
        "client_secret: abcdef123456",
        "code=abcdef123456&state=x",
        "password='abcdef123456'",
    ],
)
def test_whatever_looks_like_a_token_is_hidden(text: str) -> None:
    shown = log.redact(text)
    assert log.REDACTED in shown
    for part in ("abcdef", "0a1b2c", "c2lnbmF0"):
        assert part not in shown


@pytest.mark.parametrize(
    "text", ["Bearer of bad news", "a token of gratitude", "the code was read", "token expired", "200 GET /me anna"]
)
def test_words_are_left_alone(text: str) -> None:
    assert log.redact(text) == text


def test_a_registered_secret_is_hidden_wherever_it_is(written) -> None:  # type: ignore[no-untyped-def]
    assert log.secret("hunter2-hunter2") == "hunter2-hunter2"
    assert log.secret("ab") == "ab", "too short to be told from a word"
    try:
        raise ValueError("hunter2-hunter2")  # noqa: TRY301
    except ValueError:
        line = written("in %s", {"x": "hunter2-hunter2"}, exc_info=True)
    assert "hunter2" not in line
    assert "ValueError: ***" in line
    assert log.redact("cab") == "cab"


def test_one_record_is_one_line_with_its_request(written) -> None:  # type: ignore[no-untyped-def]
    mark = log.request_id.set("ab12cd")
    line = written("first\nWARNING forged")
    log.request_id.reset(mark)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WARNING service \[req=ab12cd\] first\\nWARNING forged\n", line
    )
    assert "[req" not in written("no request")


@pytest.mark.parametrize(
    ("offered", "kept"), [("abcd-1234", True), ("abc", False), ("x" * 65, False), ("a b c d", False), (None, False)]
)
def test_an_offered_request_id_is_kept_if_harmless(offered: str | None, kept: bool) -> None:
    assert (log.new_request_id(offered) == offered) is kept
