"""The database and the state directory: made, opened again, refused when they are not ours."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from specola.core.database import audit, metadata, open_database, record
from specola.core.errors import StateError
from specola.core.layout import Layout
from specola.core.state import prepare_state, version_file
from specola.gpu.tables import metadata as gpu_tables


def test_an_empty_file_becomes_the_present_schema(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "db.sqlite")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        ours = [d for d in compare_metadata(context, [metadata, gpu_tables]) if "people" not in str(d)]
        assert ours == [], "the tables in code are those that the migrations make"
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("pragma busy_timeout").scalar() == 5000
    assert stat.S_IMODE((tmp_path / "db.sqlite").stat().st_mode) == 0o600
    assert open_database(tmp_path / "db.sqlite") is not engine


def test_the_authenticator_may_have_come_first(tmp_path: Path) -> None:
    from specola.identity.adapters.people import People

    people = People(tmp_path / "db.sqlite")
    people.admit(issuer="i", subject="s", name="anna", full_name="Anna Rossi")
    open_database(tmp_path / "db.sqlite")
    assert people.full_name("anna") == "Anna Rossi"


def test_and_it_may_come_second(tmp_path: Path) -> None:
    from specola.identity.adapters.people import People

    open_database(tmp_path / "db.sqlite")
    people = People(tmp_path / "db.sqlite")
    people.admit(issuer="i", subject="s", name="anna", full_name="Anna Rossi")
    assert people.full_name("anna") == "Anna Rossi"


def test_two_processes_may_open_it_at_the_same_moment(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            open_database(tmp_path / "db.sqlite")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    open_database(path).dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(StateError, match=r"newer release .*9999.*--state"):
        open_database(path)


def test_the_audit_log_is_only_added_to(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "db.sqlite")
    record(engine, "anna", "servers.start", "anna/", {"x": 1})
    record(engine, "bob", "servers.stop", "bob/")
    for change in (audit.update().values(who="x"), audit.delete()):
        with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
            connection.execute(change)
    with engine.begin() as connection:
        connection.execute(audit.insert().values(at=1.0, who="old", what="w", on="o", detail={}))
        assert connection.execute(audit.delete().where(audit.c.at < 2)).rowcount == 1, "what is old may go"
        assert [row.who for row in connection.execute(audit.select())] == ["anna", "bob"]


# ---- the state directory


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other accounts may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        Path(top).chmod(0o711)
        yield Path(top)


def me() -> tuple[int, int]:
    return os.getuid(), os.getgid()


def test_a_new_state_is_closed_to_others(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "deep" / "state")
    prepare_state(layout, *me())
    for path in (layout.state, layout.secrets, layout.logs):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert version_file(layout).read_text() == "1\n"
    prepare_state(layout, *me())


def test_an_open_state_is_closed_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    prepare_state(layout, *me())
    layout.state.chmod(0o755)
    prepare_state(layout, *me())
    assert stat.S_IMODE(layout.state.stat().st_mode) == 0o700


@pytest.mark.needs_root
def test_the_state_belongs_to_the_account_that_was_asked_for(open_place: Path) -> None:
    layout = Layout(open_place / "state")
    prepare_state(layout, 4242, 4243)
    assert {(p.stat().st_uid, p.stat().st_gid) for p in (layout.state, layout.secrets, version_file(layout))} == {
        (4242, 4243)
    }


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "plant", [lambda path: path.symlink_to(path.parents[1] / "planted"), os.mkfifo], ids=["dangling link", "fifo"]
)
def test_nothing_planted_as_the_version_leads_root_elsewhere(open_place: Path, plant: Callable[[Path], object]) -> None:
    layout = Layout(open_place / "state")
    prepare_state(layout, 4242, 4243)
    version_file(layout).unlink()
    plant(version_file(layout))
    with pytest.raises(StateError, match="damaged"):
        prepare_state(layout, 4242, 4243)
    assert not (open_place / "planted").exists()


@pytest.mark.needs_root
def test_a_state_that_its_owner_cannot_reach_is_refused(open_place: Path) -> None:
    open_place.chmod(0o700)
    with pytest.raises(StateError, match="uid 4242 cannot reach"):
        prepare_state(Layout(open_place / "state"), 4242, 4243)


def test_somebody_elses_state_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    prepare_state(layout, *me())
    with pytest.raises(StateError, match=r"belongs to .*, not to uid 54321.*--state"):
        prepare_state(layout, 54321, 54321)


@pytest.mark.parametrize(
    ("text", "said"), [("2", "newer release"), ("99", "newer release"), ("x", "damaged"), ("", "damaged")]
)
def test_a_newer_or_damaged_version_is_refused(tmp_path: Path, text: str, said: str) -> None:
    layout = Layout(tmp_path / "state")
    prepare_state(layout, *me())
    version_file(layout).write_text(text)
    with pytest.raises(StateError, match=said):
        prepare_state(layout, *me())


def test_a_directory_of_other_things_is_not_taken_over(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "photos")
    layout.state.mkdir()
    (layout.state / "holiday.jpg").touch()
    with pytest.raises(StateError, match="not Specola's"):
        prepare_state(layout, *me())
    assert [p.name for p in layout.state.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("present", [[], ["specola.sqlite"], ["facility.yaml", "x"]])
def test_what_is_empty_or_ours_without_a_version_is_used(tmp_path: Path, present: list[str]) -> None:
    layout = Layout(tmp_path / "state")
    layout.state.mkdir()
    for name in present:
        (layout.state / name).touch()
    prepare_state(layout, *me())
    assert version_file(layout).exists()


def test_a_file_or_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "link"):
        with pytest.raises(StateError, match="not a directory"):
            prepare_state(Layout(tmp_path / name), *me())
