"""Ten minutes of kill -9 at random while people compute: nothing lost, nothing doubled, nothing orphaned."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from running import Facility, Session, started, wait_for

pytestmark = [pytest.mark.journey, pytest.mark.soak, pytest.mark.needs_root]

VICTIMS = ["hub", "service", "gateway", "gateway-proxy", "issuer", "launcher", "proxy"]
SECONDS = 600

COMPUTE = """
from specola_lab import scaleout
cluster = scaleout.cluster(workers=2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=120)
import os, time
def work(n):
    time.sleep(0.5)
    return n * n
futures = client.map(work, range({tasks}), pure=False)
pids = sorted(client.run(os.getpid).values())
"""


def test_people_compute_through_it(tmp_path: Path) -> None:
    tasks = 2 * 2 * SECONDS // 2
    choice = random.Random(7)
    with started() as facility:
        people = [facility.login(name) for name in ("anna", "luca")]
        kernels = []
        for person in people:
            person.start_server()
            kernels.append(person.kernel())
            kernels[-1].run(COMPUTE.replace("{tasks}", str(tasks)), 240)
        end, kills = time.monotonic() + SECONDS, []
        while time.monotonic() < end:
            victim = choice.choice(VICTIMS)
            kills.append((victim, round(facility.kill(victim), 1)))
            time.sleep(choice.uniform(0, 5))
        Path("artefacts").mkdir(exist_ok=True)
        Path("artefacts/chaos.txt").write_text("\n".join(f"{name} {seconds} s" for name, seconds in kills))
        for person, kernel in zip(people, kernels, strict=True):
            wait_for(lambda person=person: answers(person), 90)
            kernel.connect()
            out = kernel.run("print(sum(client.gather(futures)), pids == sorted(client.run(os.getpid).values()))", 900)
            assert out.split() == [str(sum(n * n for n in range(tasks))), "True"]
        assert one_of_each(facility)
        facility.stop()
        left = [path.name for path in Path("/proc").glob("[0-9]*") if belongs(path, str(facility.state.parent))]
        assert left == []
        assert len(kills) > 20


def answers(person: Session) -> bool:
    return person.lab("GET", "api/status").status_code == 200


def one_of_each(facility: Facility) -> bool:
    pids = [one["pid"] for one in facility.status()["processes"].values()]
    return len(set(pids)) == len(pids) and None not in pids


def belongs(process: Path, place: str) -> bool:
    try:
        return place.encode() in (process / "environ").read_bytes()
    except OSError:
        return False
