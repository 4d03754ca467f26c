"""The first form: measurements, and the texts they share kept once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    for name in ("snapshot", "software"):
        op.create_table(
            f"rigwise_{name}",
            sa.Column("sha256", sa.String(64), primary_key=True),
            sa.Column("content", sa.Text, nullable=False),
        )
    op.create_table(
        "rigwise_measurement",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("identity", sa.String(64), nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("p10", sa.Double),
        sa.Column("p90", sa.Double),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("machine_id", sa.Text, nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("snapshot_sha256", sa.String(64), sa.ForeignKey("rigwise_snapshot.sha256")),
        sa.Column("software_sha256", sa.String(64), sa.ForeignKey("rigwise_software.sha256")),
    )
    op.create_index("rigwise_measurement_series", "rigwise_measurement", ["machine_id", "name", "at"])
    op.create_index("rigwise_measurement_at", "rigwise_measurement", ["at"])


def downgrade() -> None:
    """Drop the tables, and with them all that was measured."""
    for name in ("measurement", "software", "snapshot"):
        op.drop_table(f"rigwise_{name}")
