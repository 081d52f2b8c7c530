"""The contract on the wire is written down, valid, and the one that is served."""

from __future__ import annotations

import json
import re

import pytest
from apirig import Rig
from openapi_spec_validator import validate
from running import TOP
from specola.http.openapi import document, routes_in_markdown, scopes_in_markdown
from specola.http.route import PUBLIC, Caller, Request, Route
from specola.server.openapi import all_routes, openapi

DOCUMENT = openapi()
DOCS = (TOP / "docs" / "api.md").read_text()


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_the_committed_document_is_the_present_one() -> None:
    committed = json.loads((TOP / "extension" / "openapi.json").read_text())
    assert committed == json.loads(json.dumps(DOCUMENT)), "specola render openapi > extension/openapi.json"


def test_every_operation_has_an_id_of_its_own_and_names_its_scope() -> None:
    operations = [op for path in DOCUMENT["paths"].values() for op in path.values()]
    assert len({op["operationId"] for op in operations}) == len(operations) == len(all_routes())
    assert all(op["x-scope"].startswith("custom:specola:") and op["security"] for op in operations)


@pytest.mark.parametrize(
    ("name", "table"), [("scopes", scopes_in_markdown()), ("routes", routes_in_markdown(all_routes()))]
)
def test_the_tables_in_the_docs_are_those_of_the_code(name: str, table: str) -> None:
    found = re.search(f"<!-- {name} -->\n(.*?)\n?<!-- end -->", DOCS, re.DOTALL)
    assert found is not None
    assert found[1] == table, f"docs/api.md, between the marks of {name}, should be:\n{table}"


async def test_a_real_answer_has_the_shape_that_is_promised(rig: Rig) -> None:
    from jsonschema import Draft202012Validator

    rig.state.server("anna")
    for path, model in (("/me", "Me"), ("/servers", "Servers"), ("/scaleout/sites", "Sites")):
        answer = (await rig.ask("GET", path, rig.token())).json()
        schema = {"$ref": f"#/components/schemas/{model}", "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(answer)


def test_a_public_route_asks_for_nothing() -> None:
    async def nothing(_caller: Caller, _request: Request) -> None:
        return None

    health = Route("GET", "/healthz", PUBLIC, nothing, summary="The service answers")
    assert "security" not in document([health])["paths"]["/healthz"]["get"]
