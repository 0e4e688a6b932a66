"""What a job found, in words: from the summary of its run to one short sentence.

Summaries are read leniently: a worker of another version may write one that this version does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from regrow.web.wording import counted, number, plain, size

Summary = Mapping[str, Any]


def finding(job: str, outcome: str, summary: Summary) -> str:
    """One sentence without its full stop; never empty."""
    if outcome == "failed":
        return str(
            summary.get("error")
            or _unbalanced(summary)
            or _plainly(summary)
            or "The run failed; the worker's log says why"
        )
    try:
        worded = _WORDS[job](summary) if job in _WORDS else ""
    except (KeyError, TypeError, ValueError):
        worded = ""
    return worded or _plainly(summary) or "Done; nothing to tell"


def _plainly(summary: Summary) -> str:
    """The numbers and words of any summary, as they are."""
    told = [
        f"{plain(key)} {number(value) if isinstance(value, int | float) else value}"
        for key, value in summary.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    ]
    return ", ".join(told[:6])


def _health(summary: Summary) -> str:
    ran = summary["ran"]
    if not ran:
        return "No check was due"
    statuses = ("healthy", "degraded", "unhealthy", "unknown")
    found = _nonzero((summary[status], status) for status in statuses)
    parts = [f"{counted(ran, 'check')} ran: {found}"]
    if changed := summary.get("changed"):
        parts.append(f"changed: {', '.join(changed)}")
    if postponed := summary.get("postponed"):
        parts.append(f"not reached: {', '.join(postponed)}")
    if refused := summary.get("not_written"):
        parts.append(f"not written to {' nor '.join(refused)}")
    return "; ".join(parts)


def _breakers(summary: Summary) -> str:
    if not summary["breakers"]:
        return "No app uses a circuit breaker yet"
    states = _nonzero((summary[state], plain(state)) for state in ("closed", "open", "half_open"))
    written = summary["written"]
    news = f"{counted(written, 'transition')} written down" if written else "no change"
    return f"{counted(summary['breakers'], 'breaker')}: {states}; {news}"


def _redrive(summary: Summary) -> str:
    leased = summary["leased"]
    parts = []
    if leased:
        what = {
            "sent home": summary["dispatched"] + summary["resolved"],
            "put back, the broker was away": summary["released"],
            "into quarantine": summary["quarantined"],
        }
        parts.append(f"{counted(leased, 'letter')} due: {_nonzero((n, name) for name, n in what.items())}")
    if summary["held"]:
        parts.append(f"{counted(summary['held'], 'service')} held back by an open breaker")
    if summary["returned"]:
        parts.append(f"{counted(summary['returned'], 'letter')} taken back that nobody answered for")
    if summary.get("awaited"):  # runs of before did not count them
        parts.append(f"{counted(summary['awaited'], 'late letter')} still queued or running")
    return "; ".join(parts) or "No letter was due"


def _temp_files(summary: Summary) -> str:
    if "note" in summary:
        return "No folder is declared under temp_files.roots, so nothing is touched"
    if not summary["removed"]:
        return f"Nothing to remove among {counted(summary['scanned'], 'file')}"
    verb, freed = ("Would remove", "free") if summary["dry_run"] else ("Removed", "freed")
    return f"{verb} {counted(summary['removed'], 'file')}, {freed} {size(summary['freed_bytes'])}"


def _report(summary: Summary) -> str:
    return str(summary["headline"])


def _settled(summary: Summary) -> str:
    purged, days = summary["purged"], counted(summary["older_than_days"], "day")
    if not purged:
        return str(summary.get("note") or "Nothing old enough")
    archived = summary.get("archived", 0)
    how = (
        f", {counted(archived, 'letter')} put into {counted(summary['archives'], 'archive')}"
        if archived
        else ""
    )
    return f"Forgot {counted(purged, 'letter')} settled {days} ago or earlier{how}"


def _ledger(summary: Summary) -> str:
    accounts = ((summary[name], name) for name in ("live", "resolved", "discarded", "purged"))
    if not summary["accepted"]:
        return "No letter was ever accepted"
    return f"{counted(summary['accepted'], 'letter')} accepted: {_nonzero(accounts)}; the books balance"


def _unbalanced(summary: Summary) -> str:
    services = summary.get("unbalanced")
    if not isinstance(services, Mapping) or not services:
        return ""
    return f"The books of {', '.join(map(str, services))} do not balance; see `regrow dead-letters ledger`"


def _history(summary: Summary) -> str:
    gone = _nonzero((count, plain(table)) for table, count in summary.items())
    return f"Forgot {gone}" if gone else "Nothing old enough"


def _requests(summary: Summary) -> str:
    if unreadable := summary["unreadable"]:
        return f"{counted(unreadable, 'report')} of apps could not be read"
    if not summary["minutes"]:
        return "Nothing new of any app"
    return f"{counted(summary['services'], 'service')}, {counted(summary['minutes'], 'minute')}"


def _sums(summary: Summary) -> str:
    if (behind := summary["behind"]) > 600:
        return f"Catching up: {behind / 3600:.1f} h behind"
    parts = ((summary["minutes"], "minutes"), (summary["hours"], "hours"), (summary["late"], "late results"))
    return f"Added up {_nonzero(parts) or 'nothing new'}"


def _capacity(summary: Summary) -> str:
    looked_at, trends = counted(summary["looked_at"], "figure"), summary["trends"]
    if not trends:
        return f"{looked_at} looked at; no trend"
    going = ", ".join(
        f"{plain(str(one['kind']))} of {one['subject']} {one['direction']}" for one in trends[:3]
    )
    return f"{looked_at} looked at; {going}" + (f" and {len(trends) - 3} more" if len(trends) > 3 else "")


def _nonzero(counts: Iterable[tuple[int, str]]) -> str:
    return ", ".join(f"{number(count)} {name}" for count, name in counts if count)


def _trends(summary: Summary) -> str:
    if warned := summary["warnings"]:
        return f"Will soon be too high: {', '.join(map(str, warned))}"
    return f"{counted(summary['figures'], 'figure')} looked at; none will soon be too high"


_WORDS: Mapping[str, Callable[[Summary], str]] = {
    "watch_trends": _trends,
    "roll_up_results": _sums,
    "fold_request_counts": _requests,
    "forecast_capacity": _capacity,
    "health_check_monitoring": _health,
    "monitor_circuit_breakers": _breakers,
    "process_dead_letter_queue_batch": _redrive,
    "cleanup_temp_files": _temp_files,
    "generate_reliability_report": _report,
    "cleanup_old_dlq_messages": _settled,
    "fold_dead_letter_ledger": _ledger,
    "prune_history": _history,
}
