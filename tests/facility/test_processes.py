"""The table of processes, and what the supervisor is told."""

from __future__ import annotations

import configparser
import importlib.util
from collections.abc import Callable

import pytest
from specola.core.errors import StateError
from specola.core.layout import SECRETS
from specola.facility.processes import command, node, proxy_program, supervisord, table
from specola.facility.runtime import Runtime

Make = Callable[..., Runtime]


def parsed(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def test_hub_proxy_service_gateway_and_issuer_are_siblings(runtime_of: Make) -> None:
    names = {process.name for process in table(runtime_of())}
    assert names == {"launcher", "issuer", "proxy", "hub", "service", "gateway-proxy", "gateway"}


def test_only_the_launcher_is_privileged(runtime_of: Make) -> None:
    assert [process.name for process in table(runtime_of()) if process.privileged] == ["launcher"]
    config = parsed(supervisord(runtime_of(), root=True))
    accounts = {name: config[name].get("user") for name in config.sections() if name.startswith("program:")}
    assert {name for name, account in accounts.items() if account is None} == {"program:launcher"}
    assert set(accounts.values()) == {None, "specola"}


def test_the_launcher_reads_the_quota_from_its_command_line(runtime_of: Make) -> None:
    def launcher(text: str) -> tuple[str, ...]:
        return next(process for process in table(runtime_of(text)) if process.privileged).argv

    assert launcher("homes: {quota_gib: 20}")[-2:] == ("--quota-gib", "20.0")
    assert "--quota-gib" not in launcher("")


def test_without_root_nobody_is_changed_to(runtime_of: Make) -> None:
    assert "user=" not in supervisord(runtime_of(), root=False)


def test_restarts_are_unlimited(runtime_of: Make) -> None:
    config = parsed(supervisord(runtime_of(), root=True))
    for name in config.sections():
        if name.startswith("program:"):
            assert config[name]["autorestart"] == "true"
            assert int(config[name]["startretries"]) > 10**5


def test_no_command_line_and_no_configuration_holds_a_secret(runtime_of: Make) -> None:
    runtime = runtime_of()
    text = supervisord(runtime, root=True)
    for process in table(runtime):
        text += " ".join(command(runtime, process))
    for name in SECRETS:
        assert runtime.layout.secret(name) not in text


def test_a_started_proxy_asks_the_hub_for_its_routes(runtime_of: Make) -> None:
    runtime = runtime_of()
    proxy = next(process for process in table(runtime) if process.name == "proxy")
    assert any(part.startswith(f"then={runtime.hub_api_url}/proxy@") for part in command(runtime, proxy))


def test_with_subdomains_the_proxy_routes_by_host(runtime_of: Make) -> None:
    proxy = next(process for process in table(runtime_of("subdomains: true")) if process.name == "proxy")
    assert "--host-routing" in proxy.argv


def test_the_proxy_and_its_node_come_with_the_wheels() -> None:
    assert node().exists()
    assert proxy_program().exists()


def test_a_missing_node_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"specola\[local\]"):
        node()


def test_a_percent_sign_in_a_path_reaches_the_supervisor(runtime_of: Make) -> None:
    runtime = runtime_of()
    odd = runtime.layout.state.with_name("100%")
    moved = Runtime(type(runtime.layout)(odd), runtime.facility, runtime.addresses)
    assert "100%%" in supervisord(moved, root=True)


def test_nothing_begins_a_line_of_its_own_in_what_root_reads(runtime_of: Make) -> None:
    runtime = runtime_of()
    odd = runtime.layout.state.with_name("x\n[program:evil]")
    with pytest.raises(StateError, match="control character"):
        supervisord(Runtime(type(runtime.layout)(odd), runtime.facility, runtime.addresses), root=True)
