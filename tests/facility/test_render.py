"""What is derived from a facility file, without a secret in it; the documentation has every key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from specola.core.errors import StateError
from specola.core.layout import SECRETS, Layout
from specola.facility import render
from specola.facility.loader import load
from specola.facility.reference import BEGIN, END, reference
from specola.facility.runtime import Runtime, addresses_file

TOP = Path(__file__).parents[2]
EXAMPLES = sorted((TOP / "examples").glob("*.yaml"))
IAM = """
identity: {kind: iam, issuer: https://iam.example.org/, client_id: x, client_secret: {file: /nonexistent/secret}}
jupyterhub: {JupyterHub: {admin_users: [dora]}}
"""


def keys_of(schema: dict[str, Any], node: dict[str, Any], place: str) -> set[str]:
    """Every key that the schema knows, below a node."""
    if "$ref" in node:
        return keys_of(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], place)
    found: set[str] = set()
    for choice in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        found |= keys_of(schema, choice, place)
    for name, child in node.get("properties", {}).items():
        here = f"{place}.{name}".lstrip(".")
        found |= {here} | keys_of(schema, child, here)
    if "items" in node:
        found |= keys_of(schema, node["items"], f"{place}[]")
    if isinstance(node.get("additionalProperties"), dict):
        found |= keys_of(schema, node["additionalProperties"], f"{place}.<name>")
    for inner in node.get("patternProperties", {}).values():
        found |= keys_of(schema, inner, f"{place}.<name>")
    return found


def test_the_schema_takes_every_example() -> None:
    """JSON Schema for editors: valid in itself, and it agrees with the loader on the examples."""
    schema = render.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert EXAMPLES
    for path in EXAMPLES:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    jsonschema.validate({}, schema)
    jsonschema.validate({"identity": {"people": []}}, schema)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nam": "x"},
        {"servers": {"idle_limit": "30 GiB"}},
        {"servers": {"idle_limit": -1}},
        {"homes": {"quota_gib": "3 h"}},
        {"homes": {"quota_gib": 0}},
        {"identity": {"kind": "iamm"}},
        {"identity": {"kind": "iam", "issuer": "https://x", "client_id": "x", "client_secret": "x"}},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, render.schema())


def test_the_schema_holds_standard_words_only() -> None:
    assert not re.search(r'"(ge|gt|le|lt)": [0-9]', json.dumps(render.schema()))


def test_the_documentation_is_the_reference_of_today() -> None:
    """docs/facility.md holds what `specola render reference` prints."""
    page = (TOP / "docs" / "facility.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == reference(render.schema()).strip()


def test_every_key_of_the_schema_is_documented() -> None:
    schema = render.schema()
    page = (TOP / "docs" / "facility.md").read_text()
    rows = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    keys = keys_of(schema, schema, "")
    assert len(keys) > 40
    undocumented = [
        key
        for key in keys
        if not any(f"{row}.".startswith((f"{key}.", f"{key}[].")) or key.startswith(f"{row}.") for row in rows)
    ]
    assert not undocumented


def test_every_documented_key_says_what_it_means() -> None:
    for row in re.findall(r"^\| `.*$", reference(render.schema()), re.MULTILINE):
        assert not row.endswith("|  |"), row


def test_the_blocks_of_the_documentation_are_valid(tmp_path: Path) -> None:
    """A YAML block of docs/facility.md that is no excerpt of complaints loads."""
    blocks = re.findall(r"```yaml\n(.*?)```", (TOP / "docs" / "facility.md").read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        load(path)


def test_rendered_configuration_names_secrets_and_holds_none(runtime_of: Callable[..., Runtime]) -> None:
    runtime = runtime_of("")
    text = yaml.safe_dump(render.config(runtime), width=1000)
    for name in SECRETS:
        assert runtime.layout.secret(name) not in text
    for name in ("service", "router", "proxy", "crypt", "issuer-client"):
        assert f"<secret: {name}>" in text
    assert str(runtime.ports.hub) in text


def test_a_secret_of_the_issuer_is_not_even_read(runtime_of: Callable[..., Runtime]) -> None:
    """The file that the reference names does not exist, and the configuration is shown all the same."""
    shown = render.config(runtime_of(IAM))
    settings = json.dumps(shown["SpecolaAuthenticator"])
    assert "<secret: file /nonexistent/secret>" in settings
    assert shown["JupyterHub"]["admin_users"] == ["dora"]


def test_a_reference_to_the_environment_is_named_too(runtime_of: Callable[..., Runtime]) -> None:
    shown = render.config(runtime_of(IAM.replace("file: /nonexistent/secret", "env: IAM_SECRET")))
    assert "<secret: env IAM_SECRET>" in json.dumps(shown)


def test_configuration_is_plain_data(runtime_of: Callable[..., Runtime]) -> None:
    runtime = runtime_of("subdomains: true", public_url="https://hub.example.org/")
    shown = render.config(runtime)
    assert shown["JupyterHub"]["subdomain_hook"] == "<specola.facility.hub_config.service_host>"
    assert json.loads(json.dumps(shown)) == shown


def test_what_has_no_words_is_shown_as_its_type() -> None:
    veil = render._Veil()
    text = veil.stand_in("x")
    data = {Path("/a"): [b"\x00", object(), None, 1.5, True], "s": f"a{text}b", "b": bytes.fromhex(text)}
    assert veil.over(data) == {
        "/a": ["00", "<object>", None, 1.5, True],
        "s": "a<secret: x>b",
        "b": "<secret: x>",
    }


def test_processes_are_shown_with_the_names_of_their_secrets(runtime_of: Callable[..., Runtime]) -> None:
    runtime = runtime_of("")
    rows = {row["name"]: row for row in render.processes(runtime)}
    assert {"launcher", "proxy", "hub", "service", "gateway", "gateway-proxy", "issuer"} <= set(rows)
    text = json.dumps(rows)
    assert not any(runtime.layout.secret(name) in text for name in SECRETS)


def test_a_facility_that_never_started_has_example_addresses(tmp_path: Path) -> None:
    runtime = render.runtime_of(load(EXAMPLES[0]), Layout(tmp_path / "state"))
    assert runtime.public_url == "http://127.0.0.1:8000/"
    assert runtime.ports.proxy == 8000


def test_a_facility_that_started_has_its_own(runtime_of: Callable[..., Runtime]) -> None:
    started = runtime_of("")
    addresses_file(started.layout).write_text(started.addresses.model_dump_json())
    assert render.runtime_of(started.facility, started.layout).ports == started.ports


def test_addresses_that_cannot_be_read_say_so(runtime_of: Callable[..., Runtime]) -> None:
    started = runtime_of("")
    addresses_file(started.layout).mkdir()
    with pytest.raises(StateError, match=r"cannot read .*runtime\.json: Is a directory"):
        render.runtime_of(started.facility, started.layout)
