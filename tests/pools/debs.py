"""Debian's packages unpacked into a directory of their own, and made to run there.

Nothing is installed: apt works on a state of its own, and the programs are told to use the loader and the libraries
that lie beside them, so that they run on any Debian, on the host's files, and hand nothing of theirs to a job.
The result is kept; its place is part of the programs, so it cannot be moved.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT = Path("/var/lib/specola/pools")
LIBRARY = re.compile(r"(lib(?!python|perl|js-|boost-python|pam-modules)|zlib1g)(?!.*-(perl|modules-db)$).*")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ELF = b"\x7fELF"
UNUSED = 7 * 86400


class NoPackages(Exception):
    """The packages could not be fetched or unpacked; says why."""


@dataclass(frozen=True)
class Recipe:
    """What is unpacked: packages of a suite, and which of their files are programs or libraries to be adapted."""

    name: str
    suite: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    """patterns below the root"""
    libraries: tuple[str, ...]
    """directories below the root besides the usual two"""

    @property
    def place(self) -> Path:
        """Where it is kept: another recipe has another place."""
        recipe = repr(self).encode() + Path(__file__).read_bytes()
        return KEPT / f"{self.name}-{hashlib.sha256(recipe).hexdigest()[:12]}"


def unpacked(recipe: Recipe) -> Path:
    """The root of the unpacked packages, made when it is not there yet."""
    KEPT.mkdir(parents=True, exist_ok=True)
    place = recipe.place
    with (KEPT / f"{recipe.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            (place / "root").mkdir(parents=True)
            for directory in (KEPT, place, place / "root"):
                directory.chmod(0o755)
            _fetch(recipe, place / "apt")
            for package in sorted((place / "apt" / "archives").glob("*.deb")):
                _run(["dpkg-deb", "-x", str(package), str(place / "root")])
            adapt(recipe, place / "root")
            shutil.rmtree(place / "apt")
        (place / "done").touch()
        # another checkout may use another one at this moment
        for old in KEPT.glob(f"{recipe.name}-*/done"):
            if old.stat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(old.parent)
    return place / "root"


def _run(argv: list[str], **more: object) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    if done.returncode:
        raise NoPackages(f"{' '.join(argv[:2])}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return str(done.stdout)


def _fetch(recipe: Recipe, apt: Path) -> None:
    """Fetch the packages and the libraries that they need; perl, python and dpkg serve the installation only."""
    for directory in ("lists/partial", "archives/partial"):
        (apt / directory).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"{source(recipe.suite)}\n")
    (apt / "apt.conf").write_text(configuration(apt))
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "-qq", "update"], env=env)
    wanted = _run(["apt-get", "-qq", "--simulate", "install", *recipe.packages, "patchelf"], env=env)
    names = re.findall(r"^Inst (\S+)", wanted, re.MULTILINE)
    chosen = [name for name in names if name in {*recipe.packages, "patchelf"} or LIBRARY.fullmatch(name)]
    _run(["apt-get", "-qq", "download", *chosen], env=env, cwd=apt / "archives")


def source(suite: str) -> str:
    """The line of a suite at the mirror that this machine's own apt uses."""
    fields = "$(CREATED_BY) $(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    for line in _run(["apt-get", "indextargets", "--format", fields]).splitlines():
        kind, origin, component, codename, *uri = line.split()
        if (kind, origin, component) == ("Packages", "Debian", "main") and codename.isalpha():
            signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
            return f"deb {signed}{uri[0]} {suite} main"
    raise NoPackages("apt of this machine knows no Debian mirror (is its list empty? run apt-get update)")


def configuration(apt: Path) -> str:
    """Apt's configuration: places of its own, and how this machine reaches the mirror; none of the machine's hooks."""
    reach = [
        line
        for line in _run(["apt-config", "dump", "Acquire"]).splitlines()
        if not line.startswith(("Acquire::IndexTargets", "Acquire::Languages", 'Acquire "'))
    ]
    places = {
        "Dir::State": apt,
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Cache::archives": apt / "archives",
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::Etc::Parts": "-",
        "Dir::Etc::Main": "-",
        "Dir::Etc::PreferencesParts": "-",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return "\n".join([*reach, *(f'{name} "{value}";' for name, value in places.items())]) + "\n"


def adapt(recipe: Recipe, root: Path) -> None:
    """Make the programs use the loader and the libraries of the root (DT_RPATH: also for what they load later)."""
    loader = _only(root, "lib64/ld-linux*", "usr/lib64/ld-linux*", "lib/ld-linux-aarch64*", "usr/lib/ld-linux-aarch64*")
    libc = _only(root, "lib/*/libc.so.6", "usr/lib/*/libc.so.6").parent.name
    usual = [f"{top}lib/{libc}" for top in ("", "usr/")] + ["usr/lib"]
    path = ":".join(str(root / name) for name in (*usual, *recipe.libraries))
    patchelf = [str(loader), "--library-path", path, str(root / "usr/bin/patchelf")]
    for file in sorted(set(_elfs(recipe, root))):
        dynamic = subprocess.run([*patchelf, "--print-interpreter", str(file)], capture_output=True, check=False)
        interpreter = [] if dynamic.returncode else ["--set-interpreter", str(loader)]
        _run([*patchelf, *interpreter, "--force-rpath", "--set-rpath", path, str(file)])


def _elfs(recipe: Recipe, root: Path) -> Iterator[Path]:
    for pattern in recipe.programs:
        for file in root.glob(pattern):
            if file.is_file() and not file.is_symlink() and file.name != "patchelf" and file.open("rb").read(4) == ELF:
                yield file


def _only(root: Path, *patterns: str) -> Path:
    found = [path for pattern in patterns for path in root.glob(pattern)]
    if not found:
        raise NoPackages(f"the packages hold no {patterns[0]}")
    return found[0]
