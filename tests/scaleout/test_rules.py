"""Budgets, placement, commands, settings and what is believed of a heartbeat: pure rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from specola.core.errors import BadInput, Forbidden, NotFound, PublicError, TooMuch
from specola.scaleout.adapters import commands, proxy_command
from specola.scaleout.adapters.gateway_settings import GatewayNeeds, gateway_settings
from specola.scaleout.adapters.overview import last_lines
from specola.scaleout.adapters.wire import Report, pinned, public_error, read_heartbeat, read_range, refusal
from specola.scaleout.api import Scale
from specola.scaleout.budget import (
    Allowance,
    allowance,
    check_clusters,
    check_range,
    check_workers,
    count,
    remaining,
)
from specola.scaleout.model import GroupScaleout, LocalSite, ScaleoutSection
from specola.scaleout.placement import Placement, place, sites_for

SECTION = ScaleoutSection(max_workers=8, max_clusters=2)
TABLE = {"a": GroupScaleout(max_workers=4), "b": GroupScaleout(max_workers=20), "c": GroupScaleout()}


@pytest.mark.parametrize(
    ("groups", "workers", "group"),
    [((), 8, None), (("c",), 8, None), (("unknown",), 8, None), (("a",), 4, "a"), (("a", "b", "c"), 20, "b")],
)
def test_the_most_generous_group_counts(groups: tuple[str, ...], workers: int, group: str | None) -> None:
    assert allowance(SECTION, TABLE, groups) == Allowance(workers, 2, group)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_what_is_granted_never_exceeds_the_allowance(allowed: int, asked: int, elsewhere: int) -> None:
    """Whatever is asked in whatever order, the sum over all clusters of a person stays within."""
    limit = Allowance(allowed, 1)
    if asked <= remaining(limit, elsewhere):
        check_workers(limit, asked, elsewhere)
        assert asked + elsewhere <= allowed or asked == 0
    else:
        with pytest.raises(TooMuch):
            check_workers(limit, asked, elsewhere)


def test_refusals_say_who_allows_what() -> None:
    with pytest.raises(TooMuch, match="Group a allows 4 workers for one person"):
        check_workers(Allowance(4, 1, "a"), 5, 0)
    with pytest.raises(TooMuch, match="This facility allows 1 worker for one person") as refused:
        check_workers(Allowance(1, 1), 1, 1)
    assert refused.value.detail == "1 of them belong to your other clusters, so this one can have 0."
    assert refused.value.reason == "too_many_workers"
    with pytest.raises(TooMuch, match="allows 2 clusters"):
        check_clusters(Allowance(4, 2), 2)
    with pytest.raises(BadInput):
        check_workers(Allowance(4, 1), -1, 0)
    assert count(1, "cluster") == "1 cluster"


def test_an_adaptive_cluster_without_a_maximum_gets_what_remains() -> None:
    assert check_range(Allowance(8, 1), 0, None, 3) == (0, 5)
    assert check_range(Allowance(8, 1), 1, 2, 3) == (1, 2)
    for minimum, maximum in ((-1, 2), (3, 2)):
        with pytest.raises(BadInput):
            check_range(Allowance(8, 1), minimum, maximum, 0)
    with pytest.raises(TooMuch):
        check_range(Allowance(8, 1), 9, None, 0)


def test_placement_by_group() -> None:
    """A site without groups is everybody's; the first that is allowed is the default."""
    section = ScaleoutSection(sites={"closed": LocalSite(groups=("ml",)), "open": LocalSite()})
    environments = ["default"]
    assert list(sites_for(section, ["physics"])) == ["open"]
    assert place(section, ["physics"], "", "", environments) == Placement("open", "default")
    assert place(section, ["ml"], "", "default", environments) == Placement("closed", "default")
    with pytest.raises(Forbidden) as refused:
        place(section, ["physics"], "closed", "", environments)
    assert refused.value.detail == "It is open to: ml."
    with pytest.raises(NotFound):
        place(section, ["physics"], "mars", "", environments)
    with pytest.raises(NotFound):
        place(section, ["physics"], "", "cvmfs", environments)
    alone = ScaleoutSection(sites={"closed": LocalSite(groups=("ml",))})
    with pytest.raises(Forbidden):
        place(alone, ["physics"], "", "", environments)


IDENTITY = commands.Identity("c0ffee", "r1", "own-certificate", "own-key", "own-token")


def test_commands_hold_no_secret() -> None:
    """Certificate, key and token are files; argv and environment only name them."""
    prefix = Path("/env")
    made = [
        commands.scheduler(prefix, IDENTITY, api_url="http://gateway/api", workers=3, options={"idle-timeout": 60}),
        commands.worker(prefix, IDENTITY, name="w", scheduler_address="tls://127.0.0.1:1", cores=2, memory=100),
    ]
    for program in made:
        shown = " ".join([*program.argv, *program.env.values(), repr(program)])
        assert not any(secret in shown for secret in ("own-certificate", "own-key", "own-token"))
        assert "127.0.0.1" in program.argv
        assert program.env["PATH"].startswith("/env/bin:")
        assert program.env["SPECOLA_REQUEST_ID"] == "r1"
    scheduler, worker = made
    assert scheduler.key == "cluster.c0ffee.scheduler"
    assert scheduler.argv[:2] == ("/env/bin/dask", "scheduler")
    assert scheduler.argv[-2:] == ("--dg-idle-timeout", "60")
    assert scheduler.env["SPECOLA_WORKERS"] == "3"
    assert set(scheduler.files) == {"dask.crt", "dask.pem", "token"}
    assert worker.key == "cluster.c0ffee.worker.w"
    assert set(worker.files) == {"dask.crt", "dask.pem"}
    assert "DASK_GATEWAY_API_TOKEN" not in worker.env
    assert "own-" not in repr(IDENTITY)


@dataclass(frozen=True)
class SomePorts:
    gateway: int = 1
    gateway_proxy: int = 2
    gateway_tcp: int = 3


@dataclass(frozen=True)
class SomeRuntime:
    ports: SomePorts = SomePorts()


def needs() -> GatewayNeeds:
    return GatewayNeeds(
        ports=SomePorts(),
        hub_api_url="http://hub/api",
        launcher_socket=Path("/run/launcher.sock"),
        database=Path("/state/gateway.sqlite"),
        prefix=Path("/env"),
        section=SECTION,
        groups=TABLE,
        service_token="SERVICE",
        proxy_token="PROXY",
        database_key="DATABASE",
    )


def test_settings_of_the_gateway() -> None:
    settings = gateway_settings(needs())
    assert settings["DaskGateway"]["address"] == "127.0.0.1:1"
    assert settings["Proxy"]["externally_managed"] is True
    assert settings["Proxy"]["tcp_address"] == "127.0.0.1:3"
    backend = settings["LauncherBackend"]
    assert backend["api_url"] == "http://127.0.0.1:1/api"
    assert backend["stop_clusters_on_shutdown"] is False
    assert backend["db_url"] == "sqlite:////state/gateway.sqlite"
    assert backend["section"] is SECTION
    assert not any(secret in repr(needs()) for secret in ("SERVICE", "PROXY", "DATABASE"))


def test_command_of_the_client_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is not on its command line, and it is nobody's child."""
    argv = proxy_command.proxy_argv(SomeRuntime())
    assert Path(argv[0]).is_file()
    assert argv[1:] == [
        *("-address", "127.0.0.1:2"),
        *("-tcp-address", "127.0.0.1:3"),
        *("-api-url", "http://127.0.0.1:1/api/v1/routes"),
        *("-log-level", "warn"),
    ]
    monkeypatch.setattr(proxy_command.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="pip install"):
        proxy_command.proxy_argv(SomeRuntime())


def beat(**changes: object) -> dict[str, Any]:
    lists: dict[str, list[str]] = {"active_workers": [], "closing_workers": [], "closed_workers": []}
    addresses = {"scheduler_address": "tls://10.0.0.1:5", "api_address": "http://evil.example:6/x"}
    return {**addresses, "dashboard_address": "http://evil.example/", "count": 1, **lists, **changes}


def test_a_heartbeat_can_name_no_other_machine() -> None:
    """The gateway sends requests to these addresses: only their ports are the scheduler's to say."""
    checked, report = read_heartbeat(beat(specola={"idle_since": 5.0, "more": 1}))
    assert checked["scheduler_address"] == "tls://127.0.0.1:5"
    assert checked["api_address"] == "http://127.0.0.1:6"
    assert checked["dashboard_address"] == ""
    assert report == Report(idle_since=5.0)
    assert read_heartbeat(beat(specola="nonsense"))[1] == Report()


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        {},
        beat(count=-1),
        beat(count="many"),
        beat(active_workers=None),
        beat(scheduler_address="tls://127.0.0.1"),
        beat(api_address="http://127.0.0.1:99999"),
    ],
)
def test_a_malformed_heartbeat_is_refused(message: object) -> None:
    with pytest.raises(BadInput):
        read_heartbeat(message)


@given(st.text(max_size=60))
def test_no_text_pins_to_another_host(text: str) -> None:
    try:
        address = pinned(text, "tls")
    except BadInput:
        return
    assert address.startswith("tls://127.0.0.1:")


def test_range_of_numbers() -> None:
    assert read_range({"minimum": None, "maximum": None}) == (0, None)
    assert read_range({"minimum": 1, "maximum": 3}) == (1, 3)
    for message in ({"minimum": "1"}, {"maximum": 1.5}, {"minimum": True}):
        with pytest.raises(BadInput):
            read_range(message)


@pytest.mark.parametrize(
    "error", [TooMuch("Group a allows 4 workers", "Ask for fewer."), NotFound("No site"), Forbidden("No.", reason="x")]
)
def test_a_refusal_arrives_as_the_error_it_was(error: PublicError) -> None:
    answer = refusal(error)
    back = public_error(answer.headers["X-Specola-Reason"], answer.reason)
    assert type(back) is type(error)
    assert (back.title, back.detail, back.reason) == (error.title.rstrip("."), error.detail, error.reason)
    assert public_error("", "anything") is None


def test_last_words() -> None:
    assert last_lines("one\n\n two \nthree\nfour\n") == "two / three / four"
    assert last_lines("") == ""


def test_scale_is_a_number_or_a_range() -> None:
    assert Scale(workers=0).workers == 0
    assert Scale(minimum=1, maximum=1).maximum == 1
    assert Scale(maximum=3).minimum is None
    for wrong in ({}, {"workers": 1, "maximum": 2}, {"minimum": 1}, {"minimum": 3, "maximum": 2}, {"workers": -1}):
        with pytest.raises(ValidationError):
            Scale.model_validate(wrong)
