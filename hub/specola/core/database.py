"""The service's database: one SQLite file, opened by every later release."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from specola.core.errors import StateError

metadata = sa.MetaData()

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("on", sa.String, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)
idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("person", sa.String, primary_key=True),
    sa.Column("route", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("body", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False, index=True),
)
activity = sa.Table(
    "activity",
    metadata,
    sa.Column("person", sa.String, primary_key=True),
    sa.Column("server", sa.String, primary_key=True),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("reported", sa.Float, nullable=False),
    sa.Column("last_active", sa.Float, nullable=False),
    sa.Column("busy_with", sa.String),
    sa.Column("warned_for", sa.Float),
    sa.Column("stopping", sa.String),
)
home_use = sa.Table(
    "home_use",
    metadata,
    sa.Column("person", sa.String, primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("measured", sa.Float, nullable=False),
)
meta = sa.Table(
    "meta", metadata, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String, nullable=False)
)


def _on_connect(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _config(engine: sa.Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["engine"] = engine
    return config


def open_database(path: Path) -> sa.Engine:
    """The database at `path`, made or brought to this release's schema; StateError if it is from a later one."""
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", _on_connect)
    # hub and service open the same file at the same moment of a first start
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _upgrade(engine, path)
    path.chmod(0o600)
    return engine


def _upgrade(engine: sa.Engine, path: Path) -> None:
    config = _config(engine)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known:
        engine.dispose()
        raise StateError(
            f"{path} was written by a newer release of Specola (schema {present}): "
            "start that release, or give another state directory with --state"
        )
    command.upgrade(config, "head")


def record(engine: sa.Engine, who: str, what: str, on: str, detail: dict[str, Any] | None = None) -> None:
    """Append a line to the audit log: who did what, on what; `detail` must hold no secret."""
    row = {"at": time.time(), "who": who, "what": what, "on": on, "detail": json.loads(json.dumps(detail or {}))}
    with engine.begin() as connection:
        connection.execute(audit.insert().values(row))
