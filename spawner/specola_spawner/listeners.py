"""Who listens on a loopback port, as the kernel says.

A port that was chosen for a server is not reserved for it: any account could listen there first, and would be sent the
owner's requests. So nobody is routed to a port before the kernel has said that its listener belongs to the account.
"""

from __future__ import annotations

from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTEN = "0A"


def listening_uids(port: int, tables: tuple[Path, ...] = TABLES) -> set[int]:
    """The uids of everybody who listens on a port of this machine, on whatever address."""
    found = set()
    for table in tables:
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[7]))
    return found
