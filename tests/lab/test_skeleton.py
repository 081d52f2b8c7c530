"""A new home starts with the facility's files, and keeps its owner's choices."""

from __future__ import annotations

from pathlib import Path

import pytest
from specola_lab.skeleton import MARK, furnish, sources


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    place = tmp_path / "skeleton"
    (place / "data").mkdir(parents=True)
    (place / "data" / "a.root").write_text("a")
    (place / "notebook.ipynb").write_text("n")
    return place


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    return place


def test_files_are_copied_with_their_folders(skeleton: Path, home: Path) -> None:
    furnish(home, [skeleton])
    assert (home / "data" / "a.root").read_text() == "a"
    assert (home / "notebook.ipynb").read_text() == "n"


def test_a_changed_file_is_kept(skeleton: Path, home: Path) -> None:
    (home / "notebook.ipynb").write_text("mine")
    furnish(home, [skeleton])
    assert (home / "notebook.ipynb").read_text() == "mine"


def test_a_deleted_file_stays_deleted(skeleton: Path, home: Path) -> None:
    furnish(home, [skeleton])
    (home / "notebook.ipynb").unlink()
    assert furnish(home, [skeleton]) == []
    assert not (home / "notebook.ipynb").exists()


def test_a_new_file_of_the_skeleton_comes_later(skeleton: Path, home: Path) -> None:
    furnish(home, [skeleton])
    (skeleton / "new.txt").write_text("new")
    assert furnish(home, [skeleton]) == [home / "new.txt"]


def test_a_home_that_cannot_be_written_is_no_error(skeleton: Path, home: Path) -> None:
    (home / ".specola").write_text("in the way of the mark")
    assert len(furnish(home, [skeleton])) == 2
    assert not (home / MARK).exists()


def test_the_places_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECOLA_SKELETON", "/a::/b")
    assert sources() == [Path("/a"), Path("/b")]
