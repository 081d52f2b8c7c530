# ruff: noqa: ASYNC240 - a test waits for what it sees, and may read a file
"""The connection of a GPU kernel: cut, hung up on, presented with stolen secrets, and behind a NAT."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from lab.gpurig import Client, Cutter, Gpu, until
from specola_lab.gpu import address
from specola_worker.kernel import wire

PRINT = """
import hashlib, random, time
seen = hashlib.sha256()
for number in range({count}):
    line = f"{{number}} " + random.Random(number).randbytes({size}).hex()
    seen.update(line.encode() + b"\\n")
    print(line, flush=True)
    time.sleep({pause})
digest = seen.hexdigest()
"""


async def same(kernel: Client, said: str) -> bool:
    """Whether what arrived is what the kernel printed."""
    return await kernel.run("print(digest)") == hashlib.sha256(said.encode()).hexdigest() + "\n"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_nothing_is_lost_or_doubled_when_the_wire_is_cut_again_and_again(gpu: Gpu, way: str) -> None:
    kernel = await gpu.kernel()
    message = kernel.send(PRINT.format(count=300, size=20_000, pause=0))
    finishing = asyncio.create_task(kernel.finish(message))
    cuts = 0
    while not finishing.done() and cuts < 5:
        # in the middle of a frame: of the output itself, or of what acknowledges it
        gpu.fake.wire.budget[way] = 700_000 if way == "up" else 60
        await until(lambda: way not in gpu.fake.wire.budget or finishing.done())
        cuts += way not in gpu.fake.wire.budget
    said = await finishing
    assert cuts >= 2
    assert await same(kernel, said)
    assert gpu.fake.wire.connections > cuts


async def test_a_kernel_goes_on_while_its_connection_is_down(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    message = kernel.send(PRINT.format(count=40, size=1_000, pause=0.02))
    await until(lambda: kernel.manager.execution_state == "busy")
    gpu.fake.wire.open = False
    gpu.fake.wire.cut()

    async def lost() -> bool:
        told = (await gpu.kernels())[kernel.id]
        return told["state"] == "lost" and "opened again" in told["reason"]

    await until(lost)
    # what is typed meanwhile waits as well
    later = kernel.send("print('later')")
    gpu.fake.wire.open = True
    said = await kernel.finish(message)
    assert await kernel.finish(later) == "later\n"
    assert await same(kernel, said)
    assert (await gpu.kernels())[kernel.id]["state"] == "ready"


async def test_the_grace_ends_the_kernel_on_both_sides(gpu: Gpu) -> None:
    gpu.fake.grace = gpu.half.grace = 1.0
    kernel = await gpu.kernel()
    pid = int(await kernel.run("treasure = 7; import os; print(os.getpid())"))
    gpu.fake.wire.open = False
    gpu.fake.wire.cut()
    worker = gpu.fake.workers["lease-1"]
    await until(lambda: worker.poll() is not None, what="the worker's end")
    assert worker.returncode == 3
    assert not Path(f"/proc/{pid}").exists()

    async def ended() -> bool:
        return (await gpu.kernels())[kernel.id]["state"] == "ended"

    await until(ended)
    # where the home is shared, its variables are saved all the same
    (saved,) = (await gpu.get("specola/gpu/snapshots"))["items"]
    assert "treasure" in saved["names"]


async def test_a_worker_waits_for_a_server_that_is_not_there_yet(gpu: Gpu) -> None:
    gpu.fake.wire.open = False
    gpu.fake.grant()
    name = await gpu.start()
    await until(lambda: "lease-1" in gpu.fake.workers)
    await until(lambda: "no connection yet" in gpu.fake.log("lease-1"))
    gpu.fake.wire.open = True
    kernel = await gpu.ready(name)
    assert await kernel.run("print(1)") == "1\n"


async def test_a_greeting_that_did_not_arrive_leaves_the_secret_good(gpu: Gpu) -> None:
    gpu.fake.wire.budget["down"] = 100
    kernel = await gpu.kernel()
    assert await kernel.run("print(1)") == "1\n"
    assert gpu.fake.wire.connections > 1


# who may come in


async def dial(gpu: Gpu, kernel_id: str, secret: str, **headers: str) -> Any:
    """A websocket to the relay without any login."""
    stranger = aiohttp.ClientSession()
    url = f"{gpu.url}specola/gpu/relay/{kernel_id}"
    try:
        socket = await stranger.ws_connect(url, headers={"Authorization": f"{wire.SCHEME} {secret}", **headers})
    except BaseException:
        await stranger.close()
        raise
    return stranger, socket


async def status_of(gpu: Gpu, kernel_id: str, secret: str, **headers: str) -> int:
    try:
        stranger, socket = await dial(gpu, kernel_id, secret, **headers)
    except aiohttp.WSServerHandshakeError as error:
        return error.status
    await socket.close()
    await stranger.close()
    return 101


async def pending(gpu: Gpu) -> tuple[str, str]:
    """A kernel whose worker has not dialled yet, and the secret that its worker would use."""
    gpu.fake.starts = False
    gpu.fake.grant()
    name = await gpu.start()
    await until(lambda: gpu.fake.orders)
    return name, gpu.fake.orders["lease-1"]["secret"]


async def test_only_the_secret_opens_the_relay_and_only_once(gpu: Gpu) -> None:
    name, secret = await pending(gpu)
    for wrong in ("", "x", secret[:-1], secret + "x", "ä", "x" * 5000):
        assert await status_of(gpu, name, wrong) == 403
    assert await status_of(gpu, str(uuid.uuid4()), secret) == 403
    assert await status_of(gpu, name, secret, Origin="https://evil.example") == 403
    async with gpu.browser.get(f"{gpu.url}specola/gpu/relay/{name}") as answer:
        assert answer.status == 403  # a login is no secret
    gpu.fake.start_worker("lease-1")
    kernel = await gpu.ready(name)
    assert await status_of(gpu, name, secret) == 403
    assert await kernel.run("print(1)") == "1\n"


async def test_a_stale_session_is_refused(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    link = gpu.half.registry.links[kernel.id]
    session = link._session_secret
    assert await status_of(gpu, kernel.id, session) == 101
    await kernel.run("print(1)")  # the worker has come back after the stranger took its place
    async with gpu.browser.delete(f"{gpu.url}api/kernels/{kernel.id}") as answer:
        assert answer.status == 204
    await until(lambda: link.state == "ended")
    assert await status_of(gpu, kernel.id, session) == 403


async def test_a_secret_that_is_used_again_ends_a_worker_at_once(gpu: Gpu) -> None:
    await gpu.kernel()
    copy = gpu.fake.place / "copy"
    copy.mkdir()
    gpu.fake.orders["copy"] = gpu.fake.orders["lease-1"]
    worker = gpu.fake.start_worker("copy")
    await until(lambda: worker.poll() is not None)
    assert worker.returncode == 4


async def test_who_does_not_greet_is_hung_up_on(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "GREETING_SECONDS", 0.05)
    name, secret = await pending(gpu)
    stranger, socket = await dial(gpu, name, secret)
    assert json.loads((await socket.receive()).data)["session"]
    assert (await socket.receive()).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    await stranger.close()
    assert gpu.half.registry.links[name].opening is None


async def test_one_connection_that_has_not_greeted_is_held_at_a_time(gpu: Gpu) -> None:
    name, secret = await pending(gpu)
    first, hung_up = await dial(gpu, name, secret)
    second, _ = await dial(gpu, name, secret)
    await hung_up.receive()
    assert (await hung_up.receive()).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    await first.close()
    await second.close()


@pytest.mark.parametrize("said", ["nonsense", b"D" + bytes(20), json.dumps({"specola": 9})])
async def test_who_greets_wrongly_is_hung_up_on_and_the_worker_still_comes(gpu: Gpu, said: str | bytes) -> None:
    name, secret = await pending(gpu)
    stranger, socket = await dial(gpu, name, secret)
    await socket.receive()
    await (socket.send_bytes(said) if isinstance(said, bytes) else socket.send_str(said))
    assert (await socket.receive()).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    await stranger.close()
    gpu.fake.start_worker("lease-1")
    assert await (await gpu.ready(name)).run("print(1)") == "1\n"


async def test_a_frame_that_is_too_large_ends_the_connection(gpu: Gpu) -> None:
    name, secret = await pending(gpu)
    stranger, socket = await dial(gpu, name, secret)
    await socket.receive()
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(bytes(wire.LARGEST_FRAME + 1))
    said = await socket.receive()
    assert said.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
    await stranger.close()


async def test_the_secret_is_in_no_log_and_no_answer(gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    kernel = await gpu.kernel()
    secret = gpu.fake.orders["lease-1"]["secret"]
    session = gpu.half.registry.links[kernel.id]._session_secret
    told = json.dumps([await gpu.kernels(), await gpu.get("api/kernels")])
    await until(lambda: gpu.half.registry.links[kernel.id].secret == "")
    environment = await kernel.run("import os; print(dict(os.environ))")
    process = gpu.fake.workers["lease-1"].pid
    command = Path(f"/proc/{process}/cmdline").read_text() + Path(f"/proc/{process}/environ").read_text()
    for text in (told, environment, command, caplog.text, gpu.fake.log("lease-1")):
        assert secret not in text
        assert session not in text
    assert not (gpu.fake.place / "lease-1.json").exists()


ADDRESSES = {
    "the operator's word": (
        {
            "SPECOLA_RELAY_URL": "https://inside.example/user/anna/",
            "JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/anna/",
        },
        "wss://inside.example/user/anna/specola/gpu/relay/",
    ),
    "the hub's public URL": (
        {"JUPYTERHUB_PUBLIC_URL": "https://anna.hub.example/user/anna/"},
        "wss://anna.hub.example/user/anna/specola/gpu/relay/",
    ),
    "a host alone": ({"SPECOLA_RELAY_URL": "http://10.0.0.1:8000"}, "ws://10.0.0.1:8000/user/anna/specola/gpu/relay/"),
    "the host of the API": ({}, "ws://127.0.0.1:8100/user/anna/specola/gpu/relay/"),
}


@pytest.mark.parametrize(("environment", "expected"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_a_worker_is_told_the_outside_address(environment: dict[str, str], expected: str) -> None:
    assert address.relay("http://127.0.0.1:8100/services/specola/api/v1/", "/user/anna/", environment) == expected


# a worker that can only dial out


@pytest.fixture
def behind_nat() -> Iterator[tuple[list[str], str]]:
    """A network namespace whose only way is out, masqueraded; words before a command in it, and our address there."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("iptables"):
        pytest.skip("needs root, ip and iptables: a network namespace is made")
    name = f"sp{uuid.uuid4().hex[:8]}"
    third = os.getpid() % 200 + 20
    ours, theirs = f"10.213.{third}.1", f"10.213.{third}.2"
    inside = ["ip", "netns", "exec", name]

    def do(*words: str, check: bool = True) -> None:
        subprocess.run(words, check=check, capture_output=True)

    try:
        do("ip", "netns", "add", name)
        do("ip", "link", "add", name, "type", "veth", "peer", "name", "out0", "netns", name)
        do("ip", "addr", "add", f"{ours}/30", "dev", name)
        do("ip", "link", "set", name, "up")
        for words in (f"addr add {theirs}/30 dev out0", "link set out0 up", "link set lo up"):
            do(*inside, "ip", *words.split())
        do(*inside, "ip", "route", "add", "default", "via", ours)
        # nothing that comes from outside gets in, not even to a port that listens
        do(*inside, "iptables", "-A", "INPUT", "-i", "out0", "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP")
        do(*inside, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "out0", "-j", "MASQUERADE")
    except (subprocess.CalledProcessError, OSError) as error:
        do("ip", "netns", "del", name, check=False)
        pytest.skip(f"no network namespace can be made here: {error}")
    try:
        yield inside, ours
    finally:
        do("ip", "netns", "del", name, check=False)
        do("ip", "link", "del", name, check=False)


@pytest.mark.needs_root
async def test_a_worker_that_can_only_dial_out_serves_a_kernel(gpu: Gpu, behind_nat: tuple[list[str], str]) -> None:
    inside, ours = behind_nat
    gate = Cutter(gpu.fake.wire.target)
    port = await gate.start(ours)
    gpu.fake.prefix = inside
    gpu.fake.through = lambda url: url.replace(f"127.0.0.1:{gpu.fake.port}/", f"{ours}:{port}/")
    kernel = await gpu.kernel()
    # it is where it seems to be: nothing of this machine answers there
    assert "False" in await kernel.run(
        f"import socket; one = socket.socket(); print(one.connect_ex(('127.0.0.1', {gpu.fake.port})) == 0)"
    )
    said = await kernel.run(PRINT.format(count=100, size=20_000, pause=0))
    assert await same(kernel, said)
    message = await kernel.begin("import time; time.sleep(600)")
    await kernel.manager.interrupt_kernel()
    with pytest.raises(AssertionError, match="KeyboardInterrupt"):
        await kernel.finish(message)
    gate.cut()
    assert await kernel.run("print('again')") == "again\n"
    await gate.stop()
