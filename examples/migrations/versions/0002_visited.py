"""Store when each guest came."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    """Add the time of the visit."""
    op.add_column("guests", sa.Column("visited", sa.DateTime, nullable=True))


def downgrade():
    """Drop the time of the visit."""
    op.drop_column("guests", "visited")
