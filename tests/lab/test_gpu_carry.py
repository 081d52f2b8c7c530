# ruff: noqa: ASYNC240 - a test waits for what it sees, and may read a file
"""A folder on its way: what goes, what is left out, and what must not be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from specola_lab.gpu.travel import Travel
from specola_worker.kernel import carry
from specola_worker.kernel.calls import CallError, Calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "folder"
    (place / "sub").mkdir(parents=True)
    (place / "big.dat").write_bytes(bytes(3000))
    (place / "sub" / "cuts.py").write_text("PT = 20")
    (place / ".git").mkdir()
    (place / ".git" / "config").write_text("x")
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / "cuts.pyc").write_text("x")
    (place / "link").symlink_to("/etc/passwd")
    (place / "empty").touch()
    return place


def move(source: Path, entries: list[carry.Entry], receiver: carry.Receiver) -> None:
    for entry in entries:
        for said, data in carry.pieces(source, entry):
            receiver.take(said, data)
    receiver.close()


def test_the_smallest_go_first_and_links_and_hidden_files_stay(folder: Path) -> None:
    cargo = carry.pack(carry.look(folder), 100)
    assert [entry.path for entry in cargo.entries] == ["empty", "sub/cuts.py"]
    assert cargo.size == 7
    assert cargo.left_out == [{"name": "big.dat", "why": "no room left within the limit"}]


def test_a_folder_arrives_as_it_left(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "PIECE", 1000)
    receiver = carry.Receiver(tmp_path / "there", 10_000)
    move(folder, carry.look(folder), receiver)
    assert (tmp_path / "there/big.dat").read_bytes() == bytes(3000)
    assert carry.look(tmp_path / "there") == carry.look(folder)
    assert carry.changed(carry.look(tmp_path / "there"), receiver.came) == []
    (tmp_path / "there/sub/cuts.py").write_text("PT = 25")
    (tmp_path / "there/new").write_text("x")
    assert [one.path for one in carry.changed(carry.look(tmp_path / "there"), receiver.came)] == ["new", "sub/cuts.py"]


def test_what_changed_at_both_ends_is_kept_at_both(folder: Path, tmp_path: Path) -> None:
    known = {entry.path: entry for entry in carry.look(folder)}
    there = tmp_path / "there"
    move(folder, list(known.values()), carry.Receiver(there, 10_000))
    for name in ("sub/cuts.py", "big.dat"):
        (there / name).write_text(f"{name} there")
    (folder / "sub/cuts.py").write_text("here")
    (folder / "empty").unlink()
    receiver = carry.Receiver(folder, 10_000, known)
    move(there, carry.look(there), receiver)
    assert (folder / "sub/cuts.py").read_text() == "here"
    assert (folder / "sub/cuts.from-gpu.py").read_text() == "sub/cuts.py there"
    assert (folder / "big.dat").read_text() == "big.dat there"
    assert receiver.beside == ["sub/cuts.from-gpu.py"]
    assert not list(folder.rglob(".*.coming"))


PATHS = ["../x", "/etc/x", "a/../../x", "", ".", "out/x", ".bashrc", ".ssh/x", "a/.git/hooks/x", "__pycache__/x"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    receiver = carry.Receiver(tmp_path / "in", 100)
    with pytest.raises(carry.CarryError):
        receiver.take({"path": path, "offset": 0, "last": True, "changed": 0}, b"x")
    assert not (tmp_path / "x").exists()
    assert [one.name for one in (tmp_path / "in").iterdir()] == ["out"]


def test_more_than_was_agreed_is_refused_and_what_came_in_part_is_forgotten(tmp_path: Path) -> None:
    receiver = carry.Receiver(tmp_path, 10)
    receiver.take({"path": "a", "offset": 0, "last": False, "changed": 0}, b"12345")
    with pytest.raises(carry.CarryError, match="agreed"):
        receiver.take({"path": "a", "offset": 5, "last": True, "changed": 0}, b"123456")
    receiver = carry.Receiver(tmp_path, 10)
    receiver.take({"path": "a", "offset": 0, "last": False, "changed": 0}, b"1")
    with pytest.raises(carry.CarryError, match="missing"):
        receiver.take({"path": "a", "offset": 5, "last": True, "changed": 0}, b"1")
    receiver.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_gone_when_its_turn_comes_makes_no_message(tmp_path: Path) -> None:
    assert list(carry.pieces(tmp_path, carry.Entry("gone", 1, 1))) == []


def test_a_file_that_cannot_be_read_makes_no_message(folder: Path) -> None:
    assert list(carry.pieces(folder, carry.Entry("sub", 1, 1))) == []


@pytest.mark.parametrize("more", ["of it", ""])
def test_a_file_that_grows_on_its_way_comes_as_it_was_and_keeps_nobody_out(
    folder: Path, tmp_path: Path, more: str
) -> None:
    entries = carry.look(folder)
    with (folder / "empty").open("a") as file:
        file.write(more)
    with (folder / "sub" / "cuts.py").open("a") as file:
        file.write(more)
    receiver = carry.Receiver(tmp_path / "there", sum(entry.size for entry in entries))
    move(folder, entries, receiver)
    assert (tmp_path / "there/empty").read_text() == ""
    assert (tmp_path / "there/sub/cuts.py").read_text() == "PT = 20"
    assert set(receiver.came) == {"empty", "sub/cuts.py", "big.dat"}


async def refused(travel: Travel, do: str, **said: object) -> str:
    with pytest.raises(CallError) as caught:
        await travel.handlers[do]({"do": do, **said}, [])
    return str(caught.value)


async def test_the_server_takes_only_what_fits_and_what_it_knows(tmp_path: Path) -> None:
    travel = Travel(tmp_path, "a")

    async def nowhere(_parts: object) -> None: ...

    travel.calls = Calls(nowhere, {})
    assert "0 MiB; 256 may travel" in await refused(travel, "receive", root="work", name="", size=1)
    assert "2048 may travel" in await refused(travel, "receive", root="snapshot", name="a", size=10**12)
    assert "no name" in await refused(travel, "receive", root="snapshot", name="../a", size=1)
    assert "replaces no other" in await refused(travel, "receive", root="snapshot", name="b", size=1)
    assert "no such snapshot" in await refused(travel, "fetch", name="a")
    assert "Nothing was" in await refused(travel, "received", root="work", name="")
    await travel.handlers["piece"]({"path": "a"}, [b""])
    assert list(tmp_path.iterdir()) == []


async def test_a_snapshot_that_did_not_come_whole_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    travel = Travel(tmp_path, "a")
    before = tmp_path / "a"
    before.mkdir()
    (before / "manifest.json").write_text('{"names": ["x"]}')

    async def send(*files: str) -> None:
        await travel.handlers["receive"]({"root": "snapshot", "name": "a", "size": 10}, [])
        for path in files:
            await travel.handlers["piece"]({"path": path, "offset": 0, "last": True, "changed": 1}, [b"{}"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    await send("namespace.pkl")
    assert "parts are missing" in await refused(travel, "received", root="snapshot", name="a")
    with monkeypatch.context() as patched:
        patched.setattr("specola_worker.kernel.carry.Receiver.take", full)
        with pytest.raises(OSError, match="No space"):
            await send("manifest.json")
    assert "No space left" in await refused(travel, "received", root="snapshot", name="a")
    assert (before / "manifest.json").read_text() == '{"names": ["x"]}'
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    await send("manifest.json")
    await travel.handlers["received"]({"root": "snapshot", "name": "a"}, [])
    assert (before / "manifest.json").read_text() == "{}"
