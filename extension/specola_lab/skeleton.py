"""What a new home starts with: the files of the facility's skeleton directories, copied once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MARK = ".specola/furnished"


def sources() -> list[Path]:
    """The skeleton directories that the facility names (`SPECOLA_SKELETON`, separated by colons)."""
    return [Path(part) for part in os.environ.get("SPECOLA_SKELETON", "").split(":") if part]


def furnish(home: Path, skeletons: list[Path]) -> list[Path]:
    """Copy what is not there yet and was never given before; answer the files written.

    A file that its owner has deleted stays deleted: the names given are kept in `~/.specola/furnished`.
    A full home is no error here, it only gets less.
    """
    mark = home / MARK
    given = set(mark.read_text().splitlines()) if mark.exists() else set()
    written: list[Path] = []
    try:
        for skeleton in skeletons:
            for item in sorted(path for path in skeleton.rglob("*") if path.is_file()):
                name = str(item.relative_to(skeleton))
                target = home / name
                if name in given or target.exists():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(item, target)
                written.append(target)
                given.add(name)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("\n".join(sorted(given)) + "\n")
    except OSError:
        return written
    return written
