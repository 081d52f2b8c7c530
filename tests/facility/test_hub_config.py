"""The mapping from a facility to JupyterHub's configuration, fact by fact."""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from specola.core.scopes import GPU, GPU_WRITE, METRICS, SCOPES
from specola.facility import hub_config
from specola.facility.hub_config import configure, identity_settings, server_environment, service_host
from specola.facility.runtime import Runtime, addresses_file

Make = Callable[..., Runtime]

IAM = """
identity:
  kind: iam
  issuer: https://iam.example.org/
  client_id: specola
  client_secret: {file: %s}
"""


def service(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in config["JupyterHub"]["services"] if one["name"] == name)


def test_servers_outlive_the_hub(runtime_of: Make) -> None:
    assert configure(runtime_of())["JupyterHub"]["cleanup_servers"] is False


def test_the_proxy_is_a_sibling(runtime_of: Make) -> None:
    assert configure(runtime_of())["ConfigurableHTTPProxy"]["should_start"] is False


def test_everything_listens_on_loopback(runtime_of: Make) -> None:
    config = configure(runtime_of())
    for trait in ("bind_url", "hub_bind_url", "hub_connect_url"):
        assert config["JupyterHub"][trait].startswith("http://127.0.0.1:")
    for one in config["JupyterHub"]["services"]:
        assert one.get("url", "http://127.0.0.1:").startswith("http://127.0.0.1:")


def test_the_start_page_is_the_default(runtime_of: Make) -> None:
    assert configure(runtime_of())["JupyterHub"]["default_url"] == "/services/specola/"


def test_the_embedded_issuer_is_routed(runtime_of: Make) -> None:
    runtime = runtime_of()
    assert service(configure(runtime), "issuer")["url"] == f"http://127.0.0.1:{runtime.ports.issuer}"


def test_a_foreign_issuer_is_not(runtime_of: Make, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    config = configure(runtime_of(IAM % (tmp_path / "secret")))
    assert "issuer" not in [one["name"] for one in config["JupyterHub"]["services"]]


def test_a_foreign_issuers_url_is_kept_to_the_letter(runtime_of: Make, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    settings = identity_settings(runtime_of(IAM % (tmp_path / "secret")))
    assert (settings.issuer, settings.back_channel) == ("https://iam.example.org/", None)
    without = IAM.replace("example.org/", "example.org") % (tmp_path / "secret")
    assert identity_settings(runtime_of(without)).issuer == "https://iam.example.org"


def test_a_servers_token_has_its_rights_one_by_one(runtime_of: Make) -> None:
    scopes = configure(runtime_of())["Spawner"]["server_token_scopes"]
    assert "access:services!service=specola" in scopes
    assert "inherit" not in scopes
    assert {GPU, GPU_WRITE} <= set(scopes)
    assert "custom:specola:admin" not in scopes


def test_every_custom_scope_is_declared_with_its_meaning(runtime_of: Make) -> None:
    assert set(configure(runtime_of())["JupyterHub"]["custom_scopes"]) == set(SCOPES)


def test_a_token_of_its_own_reads_the_measurements_and_nothing_else(runtime_of: Make) -> None:
    runtime = runtime_of()
    config = configure(runtime)
    assert service(config, "prometheus")["api_token"] == runtime.layout.secret("metrics")
    roles = [role for role in config["JupyterHub"]["load_roles"] if "prometheus" in role.get("services", ())]
    assert [role["scopes"] for role in roles] == [["read:metrics"]]


def test_each_group_gets_the_role_of_its_members(runtime_of: Make) -> None:
    config = configure(runtime_of("groups: {ops: {roles: [admin]}}"))
    roles = {role["name"]: role for role in config["JupyterHub"]["load_roles"]}
    assert roles["specola-admin"]["groups"] == ["ops"]
    assert METRICS in roles["specola-admin"]["scopes"]
    assert METRICS not in roles["specola-user"]["scopes"]


def test_the_escape_hatch_comes_last(runtime_of: Make) -> None:
    config = configure(runtime_of("jupyterhub: {JupyterHub: {concurrent_spawn_limit: 3}}"))
    assert config["JupyterHub"]["concurrent_spawn_limit"] == 3


def test_subdomains_are_for_people_only(runtime_of: Make) -> None:
    config = configure(runtime_of("subdomains: true", public_url="https://hub.example.org/"))
    assert config["JupyterHub"]["subdomain_host"] == "https://hub.example.org"
    assert service_host("specola", "hub.example.org", "service") == "hub.example.org"
    assert service_host("anna", "hub.example.org", "user") == "anna.hub.example.org"


def test_a_servers_environment_holds_no_secret(runtime_of: Make) -> None:
    runtime = runtime_of("homes: {quota_gib: 20}")
    text = json.dumps(server_environment(runtime))
    for path in runtime.layout.secrets.iterdir():
        assert path.read_text() not in text
    assert server_environment(runtime)["SPECOLA_HOME_QUOTA_GIB"] == "20.0"


@pytest.mark.parametrize(("separate", "said"), [(True, "1"), (False, "0")])
def test_a_server_knows_whether_accounts_are_separate(runtime_of: Make, separate: bool, said: str) -> None:
    assert server_environment(runtime_of(separate=separate))["SPECOLA_SEPARATE_ACCOUNTS"] == said


def test_jupyterhub_reads_the_file_itself(runtime_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """`jupyterhub -f hub_config.py` executes it with `get_config` at hand."""
    runtime = runtime_of()
    runtime.layout.facility_file.write_text("name: there")
    addresses_file(runtime.layout).write_text(runtime.addresses.model_dump_json())
    monkeypatch.setenv("SPECOLA_STATE", str(runtime.layout.state))
    target: dict[str, dict[str, Any]] = defaultdict(dict)
    spec = importlib.util.spec_from_file_location("as_config", hub_config.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.get_config = lambda: target  # type: ignore[attr-defined]
    spec.loader.exec_module(module)
    assert target["Spawner"]["environment"]["SPECOLA_FACILITY"] == "there"
