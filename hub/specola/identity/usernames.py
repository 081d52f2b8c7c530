"""Which login names the facility accepts. What is refused says what to do about it."""

from __future__ import annotations

import re

from specola.core.errors import Forbidden

LONGEST = 64
PATTERN = re.compile(r"[a-z][a-z0-9._-]*")
# accounts of a Debian system, and names that mean something in our own URLs
RESERVED = frozenset(
    {
        "_apt",
        "adm",
        "admin",
        "administrator",
        "anonymous",
        "api",
        "backup",
        "bin",
        "condor",
        "daemon",
        "dask",
        "dask-gateway",
        "docker",
        "games",
        "gnats",
        "hub",
        "irc",
        "jupyter",
        "jupyterhub",
        "list",
        "lp",
        "mail",
        "man",
        "messagebus",
        "munge",
        "mysql",
        "news",
        "nobody",
        "none",
        "ntp",
        "null",
        "operator",
        "podman",
        "postgres",
        "proxy",
        "redis",
        "root",
        "service",
        "services",
        "slurm",
        "specola",
        "sshd",
        "staff",
        "sudo",
        "sync",
        "sys",
        "system",
        "user",
        "users",
        "uucp",
        "wheel",
        "www-data",
    }
)


class NameRefused(Forbidden):
    """A login name that the facility cannot use."""

    reason = "bad_name"


def check(name: object) -> str:
    """The name itself when it may be used; `NameRefused` with the way out otherwise."""
    complaint = _complaint(name)
    if complaint is not None:
        raise NameRefused(
            "Your login name cannot be used here.",
            f"{complaint} Ask the operator of your login service for a name of lower-case letters, digits, "
            f"dots, hyphens and underscores that starts with a letter and has at most {LONGEST} characters.",
        )
    return str(name)


def usable(name: str) -> bool:
    """Whether `check` would accept the name."""
    return _complaint(name) is None


def _complaint(name: object) -> str | None:  # noqa: PLR0911 - one line per rule reads best
    if not isinstance(name, str) or not name:
        return "The login service did not send a login name."
    if len(name) > LONGEST:
        return f"It has {len(name)} characters."
    if "@" in name:
        return "It has an '@', like an e-mail address."
    if name != name.lower():
        return "It has capital letters."
    if not PATTERN.fullmatch(name):
        return "It has characters that names of accounts cannot have."
    if name in RESERVED or name.startswith("systemd-"):
        return "It is reserved for the system."
    return None
