"""The table of the people who have ever logged in, for the authenticator and for the migrations."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, MetaData, String, Table, UniqueConstraint

METADATA = MetaData()

PEOPLE = Table(
    "people",
    METADATA,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("full_name", String(255), nullable=False, default=""),
    Column("first_seen", DateTime, nullable=False),
    Column("last_seen", DateTime, nullable=False),
    UniqueConstraint("name", name="people_name"),
)
