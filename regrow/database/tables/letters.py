"""Dead letters: rows, bodies, attempts, ledger, archives, and where captures come from."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from regrow.database.columns import Blob, LongText, RowId, UtcDateTime, key
from regrow.database.tables.metadata import metadata

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("idempotency_key", key(190), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", key(64), nullable=False),
    Column("service", key(190), nullable=False, comment="whose circuit breaker rules its redrive"),
    Column("message_type", key(190), nullable=False),
    Column("task", key(255), comment="the Celery task it goes home to"),
    Column("task_id", key(255), comment="the id under which it failed first"),
    Column("queue", key(255)),  # the one it was taken from
    Column("exchange", key(255)),  # what it was published to, and with which key
    Column("routing_key", key(255)),
    Column("broker", key(190)),  # the name that its app gives to its broker
    Column("correlation_id", key(255)),
    Column("traceparent", key(64)),
    Column("code_version", key(190)),
    Column("deliveries", Integer),  # at least so many, until it failed
    Column("confirm", key(64), nullable=False, comment="outcome or publish"),
    Column("error_class", key(255), nullable=False),
    Column("error_message", LongText, nullable=False),
    Column("traceback", LongText),
    Column("fingerprint", key(64), nullable=False),
    Column("reason", Text, comment="why it is quarantined or discarded"),
    Column("seen", Integer, nullable=False, comment="occurrences captured, redriven failures aside"),
    Column("attempts", Integer, nullable=False, comment="redrives that counted"),
    Column("max_retries", Integer, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("lease_token", key(36), comment="the fence: a settlement must carry it"),
    Column("lease_owner", String(255)),
    Column("lease_until", UtcDateTime),
    Column("deadline", UtcDateTime, comment="dispatched without an outcome until then: due again"),
    Column("first_failed_at", UtcDateTime, nullable=False),
    Column("last_failed_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("failure_class", key(64), nullable=False, server_default="unknown"),
    Column("priority", key(64), nullable=False, server_default="normal", comment="high, normal or low"),
    Column("rank", UtcDateTime, comment="its place in its service's queue; null: it waits behind another"),
    Column("waits", Integer, nullable=False, server_default="0", comment="failures in a row at no cost"),
    Column("losses", Integer, nullable=False, server_default="0", comment="workers that died while it ran"),
    Column("crashes", Integer, nullable=False, server_default="0"),  # redrivers in a row that died with it
    Column("useful_until", UtcDateTime, comment="not sent any more after this"),
    Column("order_key", key(190), comment="one of a key at a time, in the order of capture"),
    Column("inflight_key", key(190), comment="its order key while it is leased or dispatched"),
    Column("data_key", key(36)),  # what the letter says is sealed with it; NULL: it is not sealed
    Column("subject", key(80), nullable=False, server_default=""),  # a digest; "": about nobody in particular
    Column("digest", key(80)),  # of the body
    Column("erased_at", UtcDateTime),
    UniqueConstraint("idempotency_key", "generation"),
    Index(None, "subject"),
    Index(None, "service", "inflight_key", unique=True),
    Index(None, "service", "state", "rank", "id"),
    Index(None, "service", "order_key", "id"),
    Index(None, "state", "useful_until"),
    Index(None, "state", "settled_at"),
    Index(None, "deadline"),  # null unless it is dispatched
    # What lists go by. Each index with the state is written at every step of a letter, so there are few.
    Index(None, "state", "id"),
    Index(None, "service", "state", "id"),
    Index(None, "message_type", "id"),
)

dead_letter_bodies = Table(
    "dead_letter_bodies",
    metadata,
    Column("letter_id", key(36), ForeignKey("dead_letters.id", ondelete="CASCADE"), primary_key=True),
    Column("content_type", String(255), nullable=False),
    Column("content_encoding", String(64), nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", Blob, nullable=False),
)

dead_letter_attempts = Table(
    "dead_letter_attempts",
    metadata,
    Column("token", key(36), primary_key=True),
    Column("letter_id", key(36), ForeignKey("dead_letters.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("leased_at", UtcDateTime, nullable=False),
    Column("dispatched_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("outcome", key(64), comment="how it ended: an AttemptOutcome; null: not heard of yet"),
    Column("error", LongText),
    Column("service", key(190), comment="the letter's"),
    Column("failure_class", key(64)),
    Column("data_key", key(36)),  # the error is sealed with it; NULL: it is not sealed
    Column("holds", Integer, nullable=False, server_default="0"),  # looks at which no copy was sent yet
    Column("held_for", String(255)),  # why, at the last of them
    Index(None, "letter_id", "leased_at"),
    Index(None, "service", "ended_at"),
)

redrive_paces = Table(
    "redrive_paces",
    metadata,
    Column("service", key(190), primary_key=True),
    Column("rate", Float, nullable=False, comment="letters a second that the service bears, as far as seen"),
    Column("tokens", Float, nullable=False, comment="letters that may go now"),
    Column("filled_at", UtcDateTime, nullable=False),
    Column("looked_at", UtcDateTime, nullable=False, comment="outcomes up to here have been counted"),
    Column("latency", Float, comment="seconds from dispatch to success in quiet times"),
    Column("resumed_at", UtcDateTime, comment="when its breaker closed; null while it is not closed"),
    Column("canary_at", UtcDateTime, comment="when the last canary left"),
)

capture_events = Table(
    "capture_events",
    metadata,
    Column("event_id", key(190), primary_key=True),
    Column("letter_id", key(36), nullable=False),
    Column("source", key(64), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index(None, "letter_id"),
    Index(None, "received_at"),
)

dead_letter_tombstones = Table(
    "dead_letter_tombstones",
    metadata,
    Column("letter_id", key(36), primary_key=True),
    Column("idempotency_key", key(190)),  # NULL: purged by a version that kept none of this
    Column("generation", Integer, nullable=False),
    Column("state", key(64)),  # in which it was purged
    Column("subject", key(80), nullable=False),
    Column("purged_at", UtcDateTime, nullable=False),
    Index(None, "idempotency_key", "generation"),
    Index(None, "purged_at"),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("service", key(190), nullable=False),
    Column("subject", key(80), nullable=False),
    Column("key_id", key(64), nullable=False),  # what it is wrapped by, see [dead_letters.keys]
    Column("wrapped", Blob),  # NULL: erased
    Column("created_at", UtcDateTime, nullable=False),
    Column("erased_at", UtcDateTime),
    Index(None, "service", "subject"),
    Index(None, "subject"),
)

dead_letter_archives = Table(
    "dead_letter_archives",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("file", String(255), nullable=False),
    Column("letters", Integer, nullable=False),
    Column("sha256", key(64), nullable=False),
    Column("first_settled_at", UtcDateTime, nullable=False),
    Column("last_settled_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("purged_at", UtcDateTime),
    Column("purged", Integer, nullable=False, server_default="0", comment="letters deleted so far"),
    Column("given_up_at", UtcDateTime),  # its file was lost, and the letters that were left went elsewhere
    Index(None, "purged_at"),
)

archived_letters = Table(
    "archived_letters",
    metadata,
    Column("letter_id", key(36), primary_key=True),
    Column("archive_id", key(36), nullable=False),
    Index(None, "archive_id"),
)

ledger_deltas = Table(
    "ledger_deltas",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("service", key(190), nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("resolved", Integer, nullable=False),
    Column("discarded", Integer, nullable=False),
    Column("purged", Integer, nullable=False),
)

ledger_totals = Table(
    "ledger_totals",
    metadata,
    Column("service", key(190), primary_key=True),
    Column("accepted", BigInteger, nullable=False),
    Column("resolved", BigInteger, nullable=False),
    Column("discarded", BigInteger, nullable=False),
    Column("purged", BigInteger, nullable=False),
    Column("opened_at", UtcDateTime),  # opened on letters that were there; earlier purges are unknown
)

capture_sources = Table(
    "capture_sources",
    metadata,
    Column("source", key(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("watermark", BigInteger, nullable=False, comment="all entries up to this number are received"),
    Column("beyond", JSON, nullable=False, comment="ranges received beyond it"),
    Column("lost", BigInteger, nullable=False, comment="entries damaged on the disk of their app"),
    Column("gap_since", UtcDateTime),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    Index(None, "gap_since"),
    Index(None, "last_seen_at"),
)
