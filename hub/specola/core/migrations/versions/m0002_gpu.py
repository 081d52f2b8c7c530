"""GPU sharing: requests, leases, usage records, drained GPUs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From the schema of release 0.1.0."""
    op.create_table(
        "gpu_requests",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("person", sa.String, nullable=False, index=True),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("course", sa.String),
        sa.Column("wants", sa.JSON, nullable=False),
        sa.Column("gib", sa.Float),
        sa.Column("seconds", sa.Integer, nullable=False),
        sa.Column("on_grant", sa.String, nullable=False),
        sa.Column("notebook", sa.String),
        sa.Column("server", sa.Boolean, nullable=False),
        sa.Column("reclaimable", sa.Boolean, nullable=False),
        sa.Column("key", sa.String),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("lease", sa.String),
        sa.Column("returns", sa.Integer, nullable=False),
        sa.Column("ended", sa.Float),
    )
    op.create_table(
        "gpu_leases",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("request", sa.String, nullable=False),
        sa.Column("person", sa.String, nullable=False, index=True),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("course", sa.String),
        sa.Column("pool", sa.String, nullable=False),
        sa.Column("shape", sa.String, nullable=False),
        sa.Column("slots", sa.Float, nullable=False),
        sa.Column("gpu", sa.String),
        sa.Column("start", sa.Integer),
        sa.Column("size", sa.Integer),
        sa.Column("device", sa.String),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("outcome", sa.String),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Integer, nullable=False),
        sa.Column("on_grant", sa.String, nullable=False),
        sa.Column("notebook", sa.String),
        sa.Column("for_server", sa.Boolean, nullable=False),
        sa.Column("reclaimable", sa.Boolean, nullable=False),
        sa.Column("server", sa.String),
        sa.Column("grant_hash", sa.String),
        sa.Column("grant_server", sa.String),
        sa.Column("grant_until", sa.Float),
        sa.Column("kernel", sa.String),
        sa.Column("granted", sa.Float, nullable=False),
        sa.Column("starting", sa.Float),
        sa.Column("begun", sa.Float),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("active", sa.Float),
        sa.Column("expires", sa.Float),
        sa.Column("longest", sa.Float),
        sa.Column("ends_at", sa.Float),
        sa.Column("cause", sa.String),
        sa.Column("deadline", sa.Float),
        sa.Column("kernel_busy", sa.Boolean),
        sa.Column("kernel_since", sa.Float),
        sa.Column("reported", sa.Float),
        sa.Column("person_at", sa.Float),
        sa.Column("checkpoint", sa.Boolean, nullable=False),
        sa.Column("seen", sa.JSON),
        sa.Column("used", sa.Float, nullable=False),
        sa.Column("saved", sa.JSON),
        sa.Column("ended", sa.Float),
    )
    op.create_table(
        "gpu_records",
        sa.Column("lease", sa.String, primary_key=True),
        sa.Column("person", sa.String, nullable=False),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("course", sa.String),
        sa.Column("pool", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("shape", sa.String, nullable=False),
        sa.Column("slots", sa.Float, nullable=False),
        sa.Column("fraction", sa.Float, nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("server", sa.Boolean, nullable=False),
        sa.Column("asked", sa.Float, nullable=False),
        sa.Column("granted", sa.Float, nullable=False),
        sa.Column("active", sa.Float),
        sa.Column("ended", sa.Float, nullable=False, index=True),
        sa.Column("allocated_seconds", sa.Float, nullable=False),
        sa.Column("used_seconds", sa.Float, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("early", sa.Boolean, nullable=False),
    )
    op.create_table(
        "gpu_drains",
        sa.Column("pool", sa.String, primary_key=True),
        sa.Column("gpu", sa.String, primary_key=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("start", sa.Float),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
