"""Kernel workers as programs of a real launcher."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import Place, launcher
from specola.core.errors import Unavailable
from specola.gpu.adapters.local_runner import LauncherRunner, key, last_lines
from specola.gpu.model import Gone, Running, Work

WORKER = """#!/bin/sh
# stands in for the interpreter: does what the settings say instead of a kernel's work
echo "$@" >&2
case "$(cat "$4")" in
*leave*) echo "no such kernelspec" >&2; exit 3 ;;
*finish*) exit 0 ;;
*) env; exec sleep 1000 ;;
esac
"""


@pytest.fixture(scope="module")
def here() -> Iterator[Place]:
    with launcher() as place:
        yield place


@pytest.fixture
def runner(here: Place) -> LauncherRunner:
    python = here.top / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(WORKER)
    python.chmod(0o755)
    python.parent.chmod(0o755)
    return LauncherRunner(here.client(), python, environment={"MORE": "yes"})


def work(lease: str, **settings: object) -> Work:
    environment = {"CUDA_VISIBLE_DEVICES": "MIG-1"}
    return Work(lease, "anna", "a100", "3g", 3600, {"secret": "s3cret-s3cret", **settings}, environment)


async def until(asked):
    async with asyncio.timeout(60):
        while (found := await asked()) is None:  # noqa: ASYNC110 - what other processes do sets no event
            await asyncio.sleep(0.05)
    return found


async def ended(runner: LauncherRunner, lease: str) -> str:
    async def gone():
        state = await runner.poll(lease)
        return state if isinstance(state, Gone) else None

    return (await until(gone)).reason


async def test_a_worker_runs_once_and_ends_when_it_is_told(runner, here):
    await runner.start(work("one"))
    assert isinstance(await runner.poll("one"), Running)
    pid = (await here.client().poll(key("one"))).pid
    await runner.start(work("one"))
    assert (await here.client().poll(key("one"))).pid == pid
    assert await runner.leases() == {"one"}
    await runner.stop("one")
    await runner.stop("one")
    assert await runner.poll("one") == Gone()
    assert await runner.leases() == frozenset()


async def test_the_secret_is_in_a_file_of_the_person_alone(runner, here):
    await runner.start(work("two"))
    client = here.client()
    started = await client.start(key("two"), "anna", ["/bin/true"], {})
    settings = started.files / "kernel.json"
    assert json.loads(settings.read_text())["secret"] == "s3cret-s3cret"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    if os.geteuid() == 0:
        assert settings.stat().st_uid == (await client.account("anna")).uid
    processes = await asyncio.to_thread(subprocess.check_output, ["ps", "axeww"], text=True)
    assert "s3cret-s3cret" not in processes

    async def environment():
        text = await client.log(key("two"))
        return text if "SPECOLA_GPU_LEASE" in text else None

    said = await until(environment)
    assert "CUDA_VISIBLE_DEVICES=MIG-1" in said
    assert "SPECOLA_GPU_LEASE=two" in said
    assert "MORE=yes" in said
    assert f"-P -m specola_worker.kernel {settings}" in said
    await runner.stop("two")
    assert not settings.exists()


async def test_a_worker_that_ends_early_says_why(runner):
    await runner.start(work("three", leave=True))
    reason = await ended(runner, "three")
    assert reason.startswith("The kernel's worker ended with code 3: ")
    assert reason.endswith("no such kernelspec")
    await runner.start(work("three", finish=True))
    assert await ended(runner, "three") == ""


async def test_a_worker_that_is_killed_says_so_even_without_a_log(runner, here):
    await runner.start(work("four"))
    await here.client().signal(key("four"), 9)
    await ended(runner, "four")
    runner._launcher = Forgetful(here.client())
    assert await runner.poll("four") == Gone("The kernel's worker ended by signal 9.")


async def test_a_launcher_that_does_not_answer_says_nothing_about_a_worker(tmp_path):
    with pytest.raises(Unavailable):
        await LauncherRunner(Place(tmp_path).client(wait=0), Path("/bin/python")).poll("five")


def test_a_reason_has_the_last_lines_of_a_log():
    assert last_lines("a\n\n b \nc\nd" + "x" * 300) == "b / c / d" + "x" * 199


class Forgetful:
    """A launcher whose logs are gone."""

    def __init__(self, real):
        self.poll = real.poll

    async def log(self, _key, _tail):
        raise Unavailable("The launcher does not answer")
