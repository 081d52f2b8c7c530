"""Name the tests that failed in a run, one a line: `failed.py CACHE_DIR`; exit 1 for none, or more than a few."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FEW = 6


def main() -> int:
    """Read what pytest has kept."""
    try:
        failed = sorted(json.loads((Path(sys.argv[1]) / "v" / "cache" / "lastfailed").read_text()))
    except FileNotFoundError:
        return 1
    print(*failed, sep="\n")
    return 0 if 0 < len(failed) <= FEW else 1


if __name__ == "__main__":
    sys.exit(main())
