"""The tutorial data: pinned, fetched through pip, never half there."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
import uproot
from specola_lab.vbs.selection import TREE


def archive(samples: ModuleType, folder: Path, contents: dict[str, bytes]) -> Path:
    """A source archive with the right name and other contents."""
    path = folder / f"coffea-{samples.VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"coffea-{samples.VERSION}/tests/samples/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_files_are_nanoaod_of_forty_events(cms_files: Path) -> None:
    """Both files have forty entries in their tree of events."""
    for name in ("nano_dimuon.root", "nano_dy.root"):
        with uproot.open(cms_files / name) as file:
            assert file[TREE].num_entries == 40


def test_a_second_time_takes_them_from_the_cache(
    samples: ModuleType,
    cms_files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a full cache nothing is downloaded, and a folder that is complete is left alone."""
    monkeypatch.setattr(samples, "download", lambda _: pytest.fail("downloaded"))
    assert samples.main([str(tmp_path / "data"), "--cache", str(cms_files)]) == 0
    assert samples.main([str(tmp_path / "data")]) == 0
    assert samples.complete(tmp_path / "data")
    assert {path.name for path in (tmp_path / "data").iterdir()} == set(samples.FILES)
    assert capsys.readouterr().out.count("are in") == 2


def test_a_damaged_file_is_fetched_again(samples: ModuleType, cms_files: Path, tmp_path: Path) -> None:
    """A file that is not the pinned one does not count as being there."""
    samples.provide(tmp_path, cms_files)
    (tmp_path / "nano_dy.root").write_bytes(b"half of it")
    assert not samples.complete(tmp_path)
    samples.provide(tmp_path, cms_files)
    assert samples.complete(tmp_path)


def test_a_tampered_archive_is_refused(samples: ModuleType, tmp_path: Path) -> None:
    """Nothing is taken out of an archive with another hash."""
    tampered = archive(samples, tmp_path, dict.fromkeys(samples.FILES, b"not CMS data"))
    with pytest.raises(samples.SamplesError, match="not the pinned archive"):
        samples.extract(tampered, tmp_path)
    assert not list(tmp_path.glob("*.root"))


def test_other_contents_under_the_right_archive_hash_are_refused(
    samples: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are pinned themselves, too."""
    tampered = archive(samples, tmp_path, dict.fromkeys(samples.FILES, b"not CMS data"))
    monkeypatch.setattr(samples, "ARCHIVE_SHA256", samples.digest(tampered))
    with pytest.raises(samples.SamplesError, match="do not have the pinned"):
        samples.extract(tampered, tmp_path)


def test_pip_refuses_another_hash(samples: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is given the hash as well: it does not even look into an archive that was replaced on its way."""
    archive(samples, tmp_path, {"README": b"replaced"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(samples.SamplesError, match=r"DO NOT MATCH THE HASHES"):
        samples.provide(tmp_path / "data")


def test_offline_says_what_to_do(
    samples: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an index the tool ends with 1, says why and what to do, and leaves nothing half done."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert samples.main([str(tmp_path / "data")]) == 1
    said = capsys.readouterr().err
    assert "Is this machine offline?" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "data").iterdir())


def test_a_folder_that_cannot_be_made_is_named(
    samples: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the place of the folder is a sentence, not a traceback."""
    (tmp_path / "data").write_text("a file")
    assert samples.main([str(tmp_path / "data" / "more")]) == 1
    assert str(tmp_path / "data") in capsys.readouterr().err


def test_no_pip_anywhere_is_said(samples: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any pip the message names the Debian package."""
    monkeypatch.setattr(samples.sys, "executable", "/bin/false")
    monkeypatch.setattr(samples.sys, "_base_executable", "/bin/false")
    monkeypatch.setattr(samples.shutil, "which", lambda _: None)
    with pytest.raises(samples.SamplesError, match="python3-pip"):
        samples.provide(tmp_path)
