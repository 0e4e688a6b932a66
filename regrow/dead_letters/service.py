"""What one can do with dead letters, in one place: capture, redrive, settle, decide by hand, keep, look.

A capture is accepted when its transaction is committed. A redrive leases due letters, asks the service's
circuit breaker, sends each home, and waits for its outcome; one settlement per letter, whoever tells it.
"""

from __future__ import annotations

from regrow.dead_letters.archived import export_archive, find_archived, list_archives, verify_archives
from regrow.dead_letters.backlog import go_on
from regrow.dead_letters.bookkeeping import correct_ledger, fold_ledger, read_ledger
from regrow.dead_letters.by_hand import discard, retry
from regrow.dead_letters.capturing import capture, capture_many, checked
from regrow.dead_letters.erasing import erase, prove_keys, rotate_keys
from regrow.dead_letters.preflight import check_letters, check_routes
from regrow.dead_letters.reading import (
    LetterDetails,
    counts,
    flow,
    known_events,
    list_letters,
    oldest_pending,
    show,
    show_raw,
    show_redacted,
)
from regrow.dead_letters.receiving import receive
from regrow.dead_letters.redriving import process_batch
from regrow.dead_letters.retention import cleanup
from regrow.dead_letters.returned import came_back, record_failure
from regrow.dead_letters.routes import BROKER
from regrow.dead_letters.settling import settle, settle_many
from regrow.dead_letters.sources import SourceCounts, SourceState, count_sources, list_sources

__all__ = [
    "BROKER",
    "LetterDetails",
    "SourceCounts",
    "SourceState",
    "came_back",
    "capture",
    "capture_many",
    "check_letters",
    "check_routes",
    "checked",
    "cleanup",
    "correct_ledger",
    "count_sources",
    "counts",
    "discard",
    "erase",
    "export_archive",
    "find_archived",
    "flow",
    "fold_ledger",
    "go_on",
    "known_events",
    "list_archives",
    "list_letters",
    "list_sources",
    "oldest_pending",
    "process_batch",
    "prove_keys",
    "read_ledger",
    "receive",
    "record_failure",
    "retry",
    "rotate_keys",
    "settle",
    "settle_many",
    "show",
    "show_raw",
    "show_redacted",
    "verify_archives",
]
