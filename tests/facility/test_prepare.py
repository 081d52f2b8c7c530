"""What is made before the processes start, and what is refused in words."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from specola.core.errors import StateError
from specola.core.files import replace_file
from specola.core.layout import Layout
from specola.core.people import SERVICE_COMMENT
from specola.facility import prepare as module
from specola.facility.prepare import (
    Owner,
    Wish,
    check_port,
    check_readable,
    choose_addresses,
    free_ports,
    make_directory,
    prepare,
    service_account,
    write_secret,
)
from specola.facility.runtime import addresses_file, load_runtime

ME = Owner(os.getuid(), os.getgid())


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_root", lambda: False)


def test_everything_is_closed_to_others(tmp_path: Path, unprivileged: None) -> None:
    runtime = prepare(Wish(tmp_path / "state"), Path(sys.prefix))
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    for path in runtime.layout.secrets.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert runtime.layout.demo_logins.exists()


def test_a_second_start_keeps_secrets_ports_and_facility(tmp_path: Path, unprivileged: None) -> None:
    (tmp_path / "f.yaml").write_text("name: there")
    first = prepare(Wish(tmp_path / "state", tmp_path / "f.yaml", 4711), Path(sys.prefix))
    token = first.layout.secret("service")
    second = prepare(Wish(tmp_path / "state"), Path(sys.prefix))
    assert second.addresses == first.addresses
    assert second.layout.secret("service") == token
    assert second.facility.name == "there"


def test_another_port_changes_the_public_url(tmp_path: Path, unprivileged: None) -> None:
    prepare(Wish(tmp_path / "state", port=4711), Path(sys.prefix))
    second = prepare(Wish(tmp_path / "state", port=4712), Path(sys.prefix))
    assert second.public_url == "http://127.0.0.1:4712/"
    third = prepare(Wish(tmp_path / "state", public_url="https://hub.example.org"), Path(sys.prefix))
    assert third.public_url == "https://hub.example.org/"
    assert prepare(Wish(tmp_path / "state"), Path(sys.prefix)).public_url == "https://hub.example.org/"


def test_a_foreign_issuer_needs_no_logins(tmp_path: Path, unprivileged: None) -> None:
    (tmp_path / "f.yaml").write_text(
        "identity: {kind: iam, issuer: https://iam.example.org/, client_id: x, client_secret: {env: NONE}}"
    )
    runtime = prepare(Wish(tmp_path / "state", tmp_path / "f.yaml"), Path(sys.prefix))
    assert not runtime.layout.demo_logins.exists()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StateError, match=f"port {port} cannot be used.*--port"):
            check_port(port)
    check_port(port)


def test_an_environment_in_a_closed_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(StateError, match="closed to other accounts"):
        check_readable(tmp_path / "closed")
    check_readable(Path("/usr"))


def test_a_link_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(StateError, match="is a link"):
        make_directory(tmp_path / "link", 0o700, ME.uid, ME.gid)


def test_an_account_of_another_origin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_root", lambda: True)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_gecos="Mrs. Specola", pw_uid=1000, pw_gid=1))
    with pytest.raises(StateError, match="was not made by Specola"):
        service_account()


def test_the_account_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []
    known: dict[str, SimpleNamespace] = {}

    def lookup(name: str) -> SimpleNamespace:
        return known[name]

    def add(command: list[str], *, check: bool) -> None:
        made.append(command)
        known["specola"] = SimpleNamespace(pw_gecos=SERVICE_COMMENT, pw_uid=999, pw_gid=998)

    monkeypatch.setattr(module, "is_root", lambda: True)
    monkeypatch.setattr(pwd, "getpwnam", lookup)
    monkeypatch.setattr(module.grp, "getgrnam", lambda name: known[name])
    monkeypatch.setattr(subprocess, "run", add)
    assert service_account() == Owner(999, 998)
    assert service_account() == Owner(999, 998)
    assert len(made) == 1
    assert "--user-group" in made[0]
    del known["specola"]
    monkeypatch.setattr(module.grp, "getgrnam", lambda name: None)
    service_account()
    assert "--gid" in made[1]


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / ".x.new").write_text("left by a killed start")
    replace_file(tmp_path / "x", "one", group=ME.gid)
    replace_file(tmp_path / "x", "two", group=ME.gid)
    assert (tmp_path / "x").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_secrets_are_long_and_the_database_key_is_a_fernet_key(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.secrets.mkdir()
    for name in ("cookie", "gateway-db"):
        write_secret(layout, name)
    assert len(bytes.fromhex(layout.secret("cookie"))) == 32
    assert len(layout.secret("gateway-db")) == 44


def test_ports_are_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    first = choose_addresses(Wish(tmp_path), layout, Path(sys.prefix))
    assert first.ports.proxy == 8000
    addresses_file(layout).write_text(first.model_dump_json())
    assert choose_addresses(Wish(tmp_path), layout, Path(sys.prefix)) == first


def test_inner_ports_are_none_that_the_system_gives_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it gives out all of them, they are such."""
    names = tuple("abcdefgh")
    first = int(module.GIVEN_OUT.read_text().split()[0])
    ports = set(free_ports(names).values())
    assert len(ports) == len(names)
    assert max(ports) < first
    (tmp_path / "range").write_text("1024\t65535\n")
    monkeypatch.setattr(module, "GIVEN_OUT", tmp_path / "range")
    assert min(free_ports(names).values()) >= first


def test_root_does_not_obey_a_file_that_another_account_wrote(tmp_path: Path, unprivileged: None) -> None:
    """The state directory belongs to the account of the processes: a planted facility file must not move root."""
    layout = prepare(Wish(tmp_path / "state"), Path(sys.prefix)).layout
    layout.facility_file.unlink()
    layout.facility_file.symlink_to("/etc/hostname")
    with pytest.raises(StateError, match="cannot read"):
        prepare(Wish(tmp_path / "state"), Path(sys.prefix))
    layout.facility_file.unlink()
    layout.facility_file.write_text("homes: {path: /etc}")
    if os.geteuid() == 0:
        os.chown(layout.facility_file, 65534, 65534)
        with pytest.raises(StateError, match="was not written by"):
            load_runtime(layout)


def test_an_empty_directory_is_no_facility(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no facility"):
        load_runtime(Layout(tmp_path))


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http://x/path", "http://x\n[program:evil]", 'http://x"', "hub.example.org"]
)
def test_a_public_url_is_a_host(tmp_path: Path, url: str) -> None:
    with pytest.raises(StateError, match="--public-url"):
        choose_addresses(Wish(tmp_path, public_url=url), Layout(tmp_path), Path(sys.prefix))
