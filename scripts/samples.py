#!/usr/bin/env python3
"""Fetch the two small CMS NanoAOD files of the tutorials: ``samples.py DEST [--cache DIR]``.

They are test data of coffea and lie only in its source distribution, so they are obtained from there and never
committed. The user's pip does the download, hence its index, proxy and certificates apply; the archive and each file
are pinned by SHA-256.

pip insists on asking a source archive for its metadata, which would install a build system and run it (half a minute).
A build backend of four lines answers instead: nothing of the archive is executed and the download is all that is left
(two seconds).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "2026.9.0"
ARCHIVE_SHA256 = "7dfc1b54d9d1533c8a5bd8a5786d13272ea1a170b0817061d4478f721aedae04"
FILES = {
    "nano_dimuon.root": "eac7c0a973e054e890766ec4c61ca784d3d49e4f82ec0c8b9dfbe55c233297a9",
    "nano_dy.root": "159b17b34b4d13ea4960d36fb9b01f2a505cc1a5a8de0fb3cfa185154543c81c",
}
BACKEND = f"""
from pathlib import Path
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = Path(directory, "coffea-{VERSION}.dist-info"); info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: coffea\\nVersion: {VERSION}\\n")
    return info.name
"""


class SamplesError(Exception):
    """Why the files could not be provided, in words for the person at the terminal."""


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def complete(directory: Path) -> bool:
    """Whether every file is there and is the pinned one."""
    return all((directory / name).is_file() and digest(directory / name) == pin for name, pin in FILES.items())


def with_pip() -> str:
    """A Python that has pip: environments made by uv have none, the one that they were made from usually does."""
    for python in (
        sys.executable,
        getattr(sys, "_base_executable", ""),
        shutil.which("python3"),
        shutil.which("python"),
    ):
        if (
            python
            and not subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode
        ):
            return python
    message = f"No pip for {sys.executable}, nor for the python3 of this machine: install pip (Debian: python3-pip)."
    raise SamplesError(message)


def download(directory: Path) -> Path:
    """Let pip bring coffea's source archive into ``directory``; pip itself refuses another hash."""
    backend = directory / "backend" / "hatchling"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build.py").write_text(BACKEND)
    wanted = directory / "wanted.txt"
    wanted.write_text(f"coffea=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    command = [with_pip(), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += [
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
        "--dest",
        str(directory),
        "-r",
        str(wanted),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(backend.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    archive = next(directory.glob("coffea-*.tar.gz"), None)
    if done.returncode or archive is None:
        said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("WARNING"))
        message = (
            f"pip could not download the source distribution of coffea {VERSION}.\n{said.strip()}\n"
            "Is this machine offline? Only the tutorial data are missing. Run the same command again with a network, "
            f"or put {' and '.join(FILES)} (tests/samples/ of coffea's repository) into the folder by hand."
        )
        raise SamplesError(message)
    return archive


def extract(archive: Path, directory: Path) -> None:
    """Take the two files, and nothing else, out of the pinned archive."""
    if digest(archive) != ARCHIVE_SHA256:
        message = f"{archive.name} is not the pinned archive (SHA-256 {ARCHIVE_SHA256}): nothing was taken from it."
        raise SamplesError(message)
    with tarfile.open(archive) as tar:
        for name in FILES:
            member = tar.extractfile(f"coffea-{VERSION}/tests/samples/{name}")
            if member is None:
                message = f"{archive.name} holds no file {name}."
                raise SamplesError(message)
            with member, (directory / name).open("wb") as out:
                shutil.copyfileobj(member, out)
    if not complete(directory):
        message = f"{archive.name} is the pinned archive, but its files do not have the pinned SHA-256."
        raise SamplesError(message)


def provide(dest: Path, cache: Path | None = None) -> bool:
    """Put the files into ``dest`` and say whether that took a download; each appears whole or not at all."""
    if complete(dest):
        return False
    source = cache or dest
    fetched = not complete(source)
    source.mkdir(parents=True, exist_ok=True)
    if fetched:
        with tempfile.TemporaryDirectory(prefix=".samples-", dir=source) as scratch:
            extract(download(Path(scratch)), Path(scratch))
            for name in FILES:
                Path(scratch, name).replace(source / name)
    if source != dest:
        dest.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(source / name, dest / f".{name}.part")
            (dest / f".{name}.part").replace(dest / name)
    return fetched


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when both files are in place."""
    parser = argparse.ArgumentParser(description="Fetch the two CMS NanoAOD files of the tutorials.")
    parser.add_argument("dest", type=Path, help="folder that gets " + " and ".join(FILES))
    parser.add_argument("--cache", type=Path, help="folder that keeps them for the next time")
    options = parser.parse_args(arguments)
    try:
        fetched = provide(options.dest, options.cache)
    except SamplesError as error:
        print(f"samples: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"samples: {error.filename or options.dest}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"samples: {' and '.join(FILES)} {'downloaded into' if fetched else 'are in'} {options.dest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
