"""Login → server → kernel → Dask workers → uproot and awkward → histogram, without a browser."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from running import Facility, Session, wait_for

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def anna(facility: Facility) -> Session:
    session = facility.login("anna")
    session.start_server()
    return session


def run_notebook(session: Session, name: str) -> list[str]:
    """Run a notebook of the person's home inside their own server, cell by cell; the outputs."""
    content = session.lab("GET", f"api/contents/notebooks/{name}").json()["content"]
    kernel = session.kernel()
    cells = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    outputs = [kernel.run(code, 240) for code in ["import os; os.chdir(os.path.expanduser('~/notebooks'))", *cells]]
    session.lab("DELETE", f"api/kernels/{kernel.id}")
    place = Path("artefacts/notebooks")
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.txt").write_text("\n".join(outputs))
    return outputs


def test_the_first_notebook_gives_the_four_numbers(anna: Session) -> None:
    """84 muons and 66 pairs, 18 muons and 6 pairs: what coffea's own tests expect of the same files."""
    numbers = [int(found) for found in re.findall(r"\d+", " ".join(run_notebook(anna, "01-first-analysis.ipynb")))]
    for expected in (84, 66, 18, 6):
        assert expected in numbers


def test_the_three_selections_of_the_second_notebook_agree(anna: Session) -> None:
    assert "agree" in " ".join(run_notebook(anna, "02-vbs.ipynb"))


def test_no_cluster_is_left_by_the_notebooks(anna: Session) -> None:
    wait_for(lambda: none_left(anna), 120, "the end of the clusters")


def none_left(person: Session) -> bool:
    items = person.api("GET", "scaleout/clusters").json()["items"]
    return all(one["status"] in {"stopped", "failed"} for one in items)


def test_me_says_who_and_why(anna: Session) -> None:
    me = anna.api("GET", "me").json()
    assert me["name"] == "anna"
    assert [(group["name"], group["why"]) for group in me["groups"]] == [("cms", "token")]


def test_the_lab_relays_to_the_service_with_the_servers_own_token(anna: Session) -> None:
    assert anna.lab("GET", "specola/api/v1/me").json()["name"] == "anna"


def test_a_stranger_to_the_groups_is_refused_in_words(facility: Facility) -> None:
    page = facility.login("otto").page  # type: ignore[attr-defined]
    assert page.status_code == 403
    assert "cms" in page.text


def test_another_persons_server_is_not_ones_own(facility: Facility, anna: Session) -> None:
    luca = facility.login("luca")
    answer = luca.http.get(f"{facility.url}user/anna/api/status", headers={"Authorization": f"token {luca.token}"})
    assert answer.status_code in {403, 404}
    assert luca.hub("GET", "users/anna").status_code == 404


def test_more_workers_than_the_budget_are_refused_in_words(anna: Session) -> None:
    answer = anna.api("POST", "scaleout/clusters", json={"workers": 1000})
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert "cms" in json.dumps(answer.json())


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/etc/passwd", "/etc/passwd"])
def test_a_path_outside_the_home_is_refused(anna: Session, path: str) -> None:
    answer = anna.lab("GET", f"api/contents/{path}")
    assert answer.status_code in {400, 403, 404}
    assert "root:" not in answer.text


@pytest.mark.needs_root
def test_one_request_id_from_the_panel_to_the_worker(facility: Facility, anna: Session) -> None:
    """What a person did is found again in every log that it went through."""
    number = uuid.uuid4().hex[:16]
    answer = anna.lab("POST", "specola/api/v1/scaleout/clusters", json={"workers": 1}, headers={"X-Request-ID": number})
    assert answer.status_code == 202, answer.text
    name = answer.json()["name"]
    logs = {
        "API service": facility.state / "logs" / "service.log",
        "gateway": facility.state / "logs" / "gateway.log",
        "scheduler": facility.run / "logs" / f"cluster.{name}.scheduler.log",
    }
    for what, log in logs.items():
        wait_for(
            lambda log=log: log.exists() and number in log.read_text(), 180, f"the request in the log of the {what}"
        )
    pattern = f"cluster.{name}.worker.*.log"
    wait_for(
        lambda: any(number in log.read_text() for log in (facility.run / "logs").glob(pattern)), 180, "the worker's"
    )
    anna.api("DELETE", f"scaleout/clusters/{name}")
    wait_for(lambda: none_left(anna), 120, "the end of the cluster")
