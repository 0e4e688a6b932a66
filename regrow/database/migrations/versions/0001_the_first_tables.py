"""The first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import Blob, LongText, RowId, UtcDateTime, key

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "audit",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("act", key(64), nullable=False),
        sa.Column("subject", key(255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    steps.create_index("audit", ["at"])
    steps.create_index("audit", ["subject"])

    steps.create_table(
        "breaker_transitions",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("breaker", key(190), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("from_state", key(64), nullable=False),
        sa.Column("to_state", key(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_breaker_transitions")),
        sa.UniqueConstraint("breaker", "epoch", name=op.f("uq_breaker_transitions_breaker_epoch")),
    )
    steps.create_index("breaker_transitions", ["at"])

    steps.create_table(
        "capture_events",
        sa.Column("event_id", key(190), nullable=False),
        sa.Column("letter_id", key(36), nullable=False),
        sa.Column("source", key(64), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_capture_events")),
    )
    steps.create_index("capture_events", ["letter_id"])
    steps.create_index("capture_events", ["received_at"])

    steps.create_table(
        "check_results",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("check_name", key(190), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("status", key(64), nullable=False),
        sa.Column("latency", sa.Float(), nullable=False, comment="seconds"),
        sa.Column(
            "interval", sa.Float(), nullable=False, comment="seconds the check was due after this result"
        ),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_check_results")),
        sa.UniqueConstraint("check_name", "at", name=op.f("uq_check_results_check_name_at")),
    )
    steps.create_index("check_results", ["at"])

    steps.create_table(
        "dead_letters",
        sa.Column("id", key(36), nullable=False),
        sa.Column("idempotency_key", key(190), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", key(64), nullable=False),
        sa.Column("service", key(190), nullable=False, comment="whose circuit breaker rules its redrive"),
        sa.Column("message_type", key(190), nullable=False),
        sa.Column("task", key(255), nullable=True, comment="the Celery task it goes home to"),
        sa.Column("task_id", key(255), nullable=True, comment="the id under which it failed first"),
        sa.Column("queue", key(255), nullable=True),
        sa.Column("confirm", key(64), nullable=False, comment="outcome or publish"),
        sa.Column("error_class", key(255), nullable=False),
        sa.Column("error_message", LongText, nullable=False),
        sa.Column("traceback", LongText, nullable=True),
        sa.Column("fingerprint", key(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is quarantined or discarded"),
        sa.Column(
            "seen", sa.Integer(), nullable=False, comment="occurrences captured, redriven failures aside"
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="redrives that counted"),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("lease_token", key(36), nullable=True, comment="the fence: a settlement must carry it"),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column(
            "deadline",
            UtcDateTime(),
            nullable=True,
            comment="dispatched without an outcome until then: due again",
        ),
        sa.Column("first_failed_at", UtcDateTime(), nullable=False),
        sa.Column("last_failed_at", UtcDateTime(), nullable=False),
        sa.Column("settled_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint(
            "idempotency_key", "generation", name=op.f("uq_dead_letters_idempotency_key_generation")
        ),
    )
    steps.create_index("dead_letters", ["service", "state", "id"])
    steps.create_index("dead_letters", ["state", "deadline"])
    steps.create_index("dead_letters", ["state", "due_at", "id"])
    steps.create_index("dead_letters", ["state", "lease_until"])
    steps.create_index("dead_letters", ["state", "settled_at"])

    steps.create_table(
        "job_runs",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("job", key(64), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("duration", sa.Float(), nullable=False, comment="seconds"),
        sa.Column("outcome", key(64), nullable=False, comment="succeeded, partial, failed or skipped"),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
    )
    steps.create_index("job_runs", ["job", "started_at"])
    steps.create_index("job_runs", ["started_at"])

    steps.create_table(
        "reports",
        sa.Column("id", key(36), nullable=False),
        sa.Column("kind", key(64), nullable=False),
        sa.Column("period_start", UtcDateTime(), nullable=False),
        sa.Column("period_end", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("digest", key(64), nullable=False, comment="SHA-256 of the JSON text"),
        sa.Column("headline", sa.Text(), nullable=False),
        sa.Column("json", LongText, nullable=False),
        sa.Column("markdown", LongText, nullable=False),
        sa.Column("html", LongText, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    steps.create_index("reports", ["created_at"])
    steps.create_index("reports", ["kind", "period_end"])

    steps.create_table(
        "dead_letter_attempts",
        sa.Column("token", key(36), nullable=False),
        sa.Column("letter_id", key(36), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("leased_at", UtcDateTime(), nullable=False),
        sa.Column("dispatched_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column(
            "outcome",
            key(64),
            nullable=True,
            comment="succeeded, failed, held, released, expired, no_outcome, superseded",
        ),
        sa.Column("error", LongText, nullable=True),
        sa.ForeignKeyConstraint(
            ["letter_id"],
            ["dead_letters.id"],
            name=op.f("fk_dead_letter_attempts_letter_id_dead_letters"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_dead_letter_attempts")),
    )
    steps.create_index("dead_letter_attempts", ["letter_id", "leased_at"])

    steps.create_table(
        "dead_letter_bodies",
        sa.Column("letter_id", key(36), nullable=False),
        sa.Column("content_type", sa.String(length=255), nullable=False),
        sa.Column("content_encoding", sa.String(length=64), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", Blob, nullable=False),
        sa.ForeignKeyConstraint(
            ["letter_id"],
            ["dead_letters.id"],
            name=op.f("fk_dead_letter_bodies_letter_id_dead_letters"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("letter_id", name=op.f("pk_dead_letter_bodies")),
    )


def downgrade() -> None:
    # Children before parents; a table takes its indexes with it.
    for table in (
        "dead_letter_bodies",
        "dead_letter_attempts",
        "reports",
        "job_runs",
        "dead_letters",
        "check_results",
        "capture_events",
        "breaker_transitions",
        "audit",
    ):
        steps.drop_table(table)
