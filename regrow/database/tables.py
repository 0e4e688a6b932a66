"""The tables, as SQLAlchemy Core. Alembic migrations make them; a test holds the two against each other.

Times are UTC with microseconds. Ids that a list is paged by are UUIDv7 text, so that they sort by time.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from regrow.database.columns import Blob, LongText, RowId, UtcDateTime, key

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("job", key(64), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("duration", Float, nullable=False, comment="seconds"),
    Column("outcome", key(64), nullable=False, comment="succeeded, partial, failed or skipped"),
    Column("summary", JSON, nullable=False),
    Column("host", String(255), nullable=False),
    Index(None, "job", "started_at"),
    Index(None, "started_at"),
)

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
    Index(None, "state", "lease_until"),
    Index(None, "state", "deadline"),
    Index(None, "state", "settled_at"),
    Index(None, "service", "state", "id"),
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

breaker_transitions = Table(
    "breaker_transitions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("breaker", key(190), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("from_state", key(64), nullable=False),
    Column("to_state", key(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(255)),
    Column("at", UtcDateTime, nullable=False),
    Column("details", JSON, nullable=False),
    UniqueConstraint("breaker", "epoch"),
    Index(None, "at"),
)

breaker_overrides = Table(
    "breaker_overrides",
    metadata,
    Column("breaker", key(190), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("kind", key(64), comment="forced_open, disabled or metrics_only; null: reset, nothing stands"),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, comment="null: until someone resets the breaker"),
)

degradation_changes = Table(
    "degradation_changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False, comment="until when the monitor confirmed the level"),
    Column("old_level", key(64), comment="null: the first that was told"),
    Column("new_level", key(64), nullable=False),
    Column("automatic", key(64), nullable=False, comment="the level that the score alone led to"),
    Column("reason", Text, nullable=False),
    Column("actor", String(255)),
    Column("score_low", Float, nullable=False),
    Column("score_high", Float, nullable=False),
    Index(None, "at"),
)

degradation_orders = Table(
    "degradation_orders",
    metadata,
    Column("scope", key(64), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("level", key(64), comment="null: the score decides"),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, comment="null: until someone clears it"),
)

recovery_courses = Table(
    "recovery_courses",
    metadata,
    Column("service", key(190), primary_key=True),
    Column("opening", key(255), comment="what names its failure; null: it is not known to be down"),
    Column("opened_at", UtcDateTime),
    Column("trigger", key(64), nullable=False, comment="breaker or check"),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False, comment="begun for this opening"),
    Column("next_at", UtcDateTime, comment="none before this"),
    Column("locked_at", UtcDateTime, comment="since when a person is wanted"),
    Column("recovered_at", UtcDateTime, comment="when it came back last"),
    Column("ordered_by", String(255), comment="who wants the handler run now"),
    Column("ordered_reason", Text),
    Column("ordered_at", UtcDateTime),
    Column("token", key(36), comment="the fence: the end of an attempt must carry it"),
    Column("owner", String(255)),
    Column("lease_until", UtcDateTime),
    Column("by_hand", Integer, nullable=False),
)

recoveries = Table(
    "recoveries",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("service", key(190), nullable=False),
    Column("opening", key(255), comment="null: ordered while nothing was known to be down"),
    Column("attempt", Integer, nullable=False, comment="0: by hand, or a test that passed"),
    Column("kind", key(64), nullable=False, comment="of the handler; test: a test that passed"),
    Column("trigger", key(64), nullable=False, comment="breaker, check, test or hand"),
    Column("actor", String(255)),
    Column("reason", Text, nullable=False),
    Column("owner", String(255), nullable=False),
    Column("failed_at", UtcDateTime, comment="when the failure began, as far as known"),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("outcome", key(64), comment="succeeded, failed, lost, skipped or dry_run; null: under way"),
    Column("message", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Index(None, "service", "started_at"),
    Index(None, "started_at"),
)

recovery_budget = Table(
    "recovery_budget",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("exhausted_at", UtcDateTime, comment="when it last refused a handler"),
)

recovery_events = Table(
    "recovery_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("subject", key(190), nullable=False, comment="a service; of early warnings a check or breaker"),
    Column("event", key(64), nullable=False, comment="locked, unlocked, recovered, storm or early_warning"),
    Column("severity", key(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "at"),
    Index(None, "subject", "event", "at"),
)

check_results = Table(
    "check_results",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("check_name", key(190), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("status", key(64), nullable=False),
    Column("latency", Float, nullable=False, comment="seconds"),
    Column("interval", Float, nullable=False, comment="seconds the check was due after this result"),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("maintenance", key(190), comment="the window it fell into"),
    UniqueConstraint("check_name", "at"),
    Index(None, "at"),
)

check_states = Table(
    "check_states",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("status", key(64), nullable=False, comment="confirmed"),
    Column("flapping", Boolean, nullable=False),
    Column("since", UtcDateTime, nullable=False, comment="when the status was confirmed"),
    Column("at", UtcDateTime, nullable=False, comment="of the last result that is in it"),
    Column("number", BigInteger, nullable=False, comment="changes told so far"),
    Column("maintenance", key(190), comment="the window that the last result fell into"),
    Column("memory", JSON, nullable=False, comment="what the next result is judged by"),
)


def _sums(name: str, spent: type[Integer]) -> Table:
    """Where the time of a bucket went, in microseconds, and what its probes found; rows are overwritten."""
    return Table(
        name,
        metadata,
        Column("check_name", key(190), primary_key=True),
        Column("at", UtcDateTime, primary_key=True),
        *(Column(state, spent, nullable=False) for state in SUMS),
        Column("probes", Integer, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("latency", Text, nullable=False, comment="counts by bucket of those that were up"),
        Column("amended_at", UtcDateTime, comment="when late results changed it after it was closed"),
    )


SUMS = (
    "up",
    "degraded",
    "down",
    "unknown",
    "maintenance",
    "paused",
    "masked_up",
    "masked_degraded",
    "masked_down",
)
"""Microseconds; the last three are parts of ``maintenance``, ``degraded`` is a part of ``up``."""

state_spans = Table(
    "state_spans",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("starts_at", UtcDateTime, primary_key=True),
    Column("ends_at", UtcDateTime, nullable=False, comment="exclusive; no span goes over midnight UTC"),
    Column("state", key(64), nullable=False),
    Column("beneath", key(64), comment="in maintenance: what the probes found"),
)

rollups_minute = _sums("rollups_minute", Integer)
rollups_hour = _sums("rollups_hour", BigInteger)
rollups_day = _sums("rollups_day", BigInteger)

rolled_checks = Table(
    "rolled_checks",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("first_at", UtcDateTime, nullable=False, comment="of its first result ever; paused before"),
)

check_pauses = Table(
    "check_pauses",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("starts_at", UtcDateTime, primary_key=True),
    Column("ends_at", UtcDateTime, comment="null: it is still switched off"),
)

rollup_progress = Table(
    "rollup_progress",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seen_id", BigInteger, nullable=False, comment="results up to this id were looked at"),
    Column("next_id", BigInteger, nullable=False, comment="the last id at next_at"),
    Column("next_at", UtcDateTime, nullable=False),
    Column("minutes_until", UtcDateTime, nullable=False),
    Column("hours_until", UtcDateTime, nullable=False),
)

check_changes = Table(
    "check_changes",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("check_name", key(190), nullable=False),
    Column("number", BigInteger, nullable=False, comment="1, 2, ... of this check"),
    Column("kind", key(64), nullable=False, comment="status, flapping, steady or maintenance_over"),
    Column("from_status", key(64), nullable=False),
    Column("to_status", key(64), nullable=False),
    Column("at", UtcDateTime, nullable=False, comment="of the result that confirmed it"),
    Column("began_at", UtcDateTime, nullable=False, comment="of the first result that said so"),
    Column("flapping", Boolean, nullable=False),
    Column("cause", key(190), comment="the check it is down because of, as far as known then"),
    Column("maintenance", key(190), comment="the window it fell into: nobody is to be called"),
    Column("message", Text, nullable=False),
    UniqueConstraint("check_name", "number"),
    Index(None, "at"),
)

maintenance = Table(
    "maintenance",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("kind", key(64), nullable=False, comment="planned or emergency"),
    Column("scope", JSON, nullable=False, comment="checks and labels; neither: everything"),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False, comment="exclusive; moved forward when it is ended"),
    Column("announced_at", UtcDateTime, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_by", String(255), comment="who ended it before its time"),
    Index(None, "ends_at"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("root", key(210), nullable=False, comment="the subject that failed of itself"),
    Column("kind", key(64), nullable=False),
    Column("severity", key(64), nullable=False),
    Column("status", key(64), nullable=False, comment="open, closed or merged"),
    Column("title", Text, nullable=False),
    Column("began_at", UtcDateTime, nullable=False, comment="of the first bad raw result"),
    Column("detected_at", UtcDateTime, nullable=False, comment="when it was confirmed"),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(255)),
    Column("resolved_at", UtcDateTime, comment="of the first good raw result of the last in it"),
    Column("closed_by", String(255), comment="null: it ended by itself"),
    Column("root_cause", Text),
    Column("merged_into", key(36)),
    Column("reopened", Integer, nullable=False, comment="how often it went on after its end"),
    Index(None, "status", "resolved_at"),
    Index(None, "began_at"),
)

incident_events = Table(
    "incident_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("incident", key(36), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", key(64), nullable=False),
    Column("subject", key(210), nullable=False),
    Column("message", Text, nullable=False),
    Column("actor", String(255)),
    Column("data", JSON, nullable=False),
    Column("source", key(255), nullable=False, comment="what it tells of, once an incident"),
    UniqueConstraint("incident", "source"),
    Index(None, "incident", "at"),
)

incident_members = Table(
    "incident_members",
    metadata,
    Column("incident", key(36), primary_key=True),
    Column("subject", key(210), primary_key=True),
    Column("severity", key(64), nullable=False),
    Column("state", key(64), nullable=False),
    Column("cause", key(210)),
    Column("joined_at", UtcDateTime, nullable=False),
    Column("down_since", UtcDateTime, comment="null: it is not down"),
    Column("down_seconds", Float, nullable=False, comment="of the times that are over"),
    Column("ended_at", UtcDateTime),
)

incident_subjects = Table(
    "incident_subjects",
    metadata,
    Column("subject", key(210), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="of the last fact that was followed"),
    Column("state", key(64), nullable=False),
    Column("began", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("severity", key(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("cause", key(210)),
    Column("maintenance", key(190)),
    Column("incident", key(36), comment="the open one that it is in"),
)

incident_cursors = Table(
    "incident_cursors",
    metadata,
    Column("source", key(64), primary_key=True),
    Column("position", BigInteger, nullable=False, comment="the highest id of its rows that was followed"),
    Column("heard_at", UtcDateTime, comment="of the newest result of any check"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("rule", key(64), nullable=False),
    Column("subject", key(255), nullable=False),
    Column("open_key", key(64), comment="a digest of both, until it is over and will not come again"),
    Column("severity", key(64), nullable=False),
    Column("status", key(64), nullable=False, comment="pending, firing or resolved"),
    Column("message", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False, comment="since when it is so"),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("group", key(255), nullable=False, comment="what is told together"),
    Column("incident", key(36)),
    Column("fired_at", UtcDateTime),
    Column("resolved_at", UtcDateTime),
    Column("fine_since", UtcDateTime),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(255)),
    Column("paged_at", UtcDateTime, comment="when the escalation that runs began"),
    Column("notified_at", UtcDateTime),
    Column("episode", Integer, nullable=False, comment="how often an escalation began"),
    Column("step", Integer, nullable=False, comment="the last one that was told; -1: none"),
    Column("flapping", Boolean, nullable=False),
    Column("held_by", Text, comment="why nobody is told now"),
    Column("reached", JSON, nullable=False, comment="channels that were told"),
    Column("reasons", JSON, nullable=False, comment="of the last look, step by step"),
    UniqueConstraint("open_key"),
    Index(None, "status", "resolved_at"),
    Index(None, "since"),
)

alert_notices = Table(
    "alert_notices",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("alert", key(36), nullable=False),
    Column("step", key(64), nullable=False),
    Column("channel", key(64), nullable=False),
    Column("kind", key(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("body", JSON, nullable=False),
    Column("status", key(64), nullable=False, comment="waiting, sent or refused"),
    Column("due_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_token", key(36), comment="the fence: who settles it must carry it"),
    Column("lease_until", UtcDateTime),
    Column("settled_at", UtcDateTime),
    Column("error", Text),
    UniqueConstraint("alert", "step", "channel"),
    Index(None, "status", "channel", "id"),
    Index(None, "at"),
)

alert_silences = Table(
    "alert_silences",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("starts", UtcDateTime, nullable=False),
    Column("ends", UtcDateTime, nullable=False, comment="exclusive; moved forward when it is lifted"),
    Column("rule", key(64), nullable=False, comment="a pattern; empty: any"),
    Column("subject", key(255), nullable=False, comment="a pattern; empty: any"),
    Column("severity", key(64)),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "ends"),
)

alert_looks = Table(
    "alert_looks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, comment="of the last look; whoever looks holds this row"),
)

reports = Table(
    "reports",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("kind", key(64), nullable=False),
    Column("period_start", UtcDateTime, nullable=False),
    Column("period_end", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("digest", key(64), nullable=False, comment="SHA-256 of the JSON text"),
    Column("headline", Text, nullable=False),
    Column("json", LongText, nullable=False),
    Column("markdown", LongText, nullable=False),
    Column("html", LongText, nullable=False),
    Index(None, "kind", "period_end"),
    Index(None, "created_at"),
)

request_rollups = Table(
    "request_rollups",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("seconds", Integer, nullable=False, comment="60 or 3600"),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("service", key(190), nullable=False),
    Column("route", key(190), nullable=False, comment="the breaker of its path; empty without one"),
    Column("count", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("heard", Integer, nullable=False, comment="minutes in which the service was heard of"),
    Column("buckets", Text, nullable=False, comment="durations, in buckets 4% wide"),
    UniqueConstraint("seconds", "starts_at", "service", "route"),
    Index(None, "service", "seconds", "starts_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("act", key(64), nullable=False),
    Column("subject", key(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Index(None, "at"),
    Index(None, "subject"),
)
