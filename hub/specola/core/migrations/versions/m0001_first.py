"""The first schema: people, audit log, idempotency keys, activity of servers, use of homes, meta."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEPT_SECONDS = 183 * 86400

# the log of who did what is only ever added to; what is older than six months may go
NOT_CHANGED = (
    "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
)
KEPT = (
    "CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit "
    f"WHEN OLD.at > CAST(strftime('%s', 'now') AS REAL) - {KEPT_SECONDS} "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is kept six months'); END"
)


def upgrade() -> None:
    """From nothing."""
    # the hub's authenticator opens the same file, and may come first at a first start
    if not sa.inspect(op.get_bind()).has_table("people"):
        op.create_table(
            "people",
            sa.Column("issuer", sa.String(255), primary_key=True),
            sa.Column("subject", sa.String(255), primary_key=True),
            sa.Column("name", sa.String(64), nullable=False),
            sa.Column("full_name", sa.String(255), nullable=False),
            sa.Column("first_seen", sa.DateTime, nullable=False),
            sa.Column("last_seen", sa.DateTime, nullable=False),
            sa.UniqueConstraint("name", name="people_name"),
        )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False, index=True),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("what", sa.String, nullable=False),
        sa.Column("on", sa.String, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("person", sa.String, primary_key=True),
        sa.Column("route", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False, index=True),
    )
    op.create_table(
        "activity",
        sa.Column("person", sa.String, primary_key=True),
        sa.Column("server", sa.String, primary_key=True),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("reported", sa.Float, nullable=False),
        sa.Column("last_active", sa.Float, nullable=False),
        sa.Column("busy_with", sa.String),
        sa.Column("warned_for", sa.Float),
        sa.Column("stopping", sa.String),
    )
    op.create_table(
        "home_use",
        sa.Column("person", sa.String, primary_key=True),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("measured", sa.Float, nullable=False),
    )
    op.create_table(
        "meta", sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String, nullable=False)
    )
    op.execute(NOT_CHANGED)
    op.execute(KEPT)
