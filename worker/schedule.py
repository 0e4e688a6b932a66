"""What beat sends, and when: one entry a scheduled job, each expiring when its successor is due.

A worker that was away for an hour then finds at most one run of each job worth doing, not sixty: the others
have expired and are dropped at delivery. Two beats at once only send a job twice; every job tolerates that.
"""

from __future__ import annotations

from typing import Any

from regrow.settings import Settings

LOOP = 5.0
"""Longest pause between two looks of beat at its schedule."""
LOCK = 25
"""How long the lock of a beat that died keeps others from taking over: five loops."""
KEY_PREFIX = "regrow:{beat}:"
"""Where RedBeat keeps schedule and lock; the hash tag keeps them in one slot."""

TASKS = {
    "health_check_monitoring": "regrow.health.health_check_monitoring",
    "due_checks": "regrow.health.run_due_checks",
    "monitor_circuit_breakers": "regrow.breakers.monitor_circuit_breakers",
    "evaluate_degradation": "regrow.degradation.evaluate_degradation",
    "process_dead_letter_queue_batch": "regrow.dead_letters.process_dead_letter_queue_batch",
    "recover_services": "regrow.recovery.recover_services",
    "probe_open_services": "regrow.recovery.probe_open_services",
    "watch_trends": "regrow.recovery.watch_trends",
    "fold_request_counts": "regrow.requests.fold_request_counts",
    "follow_incidents": "regrow.incidents.follow_incidents",
    "forecast_capacity": "regrow.capacity.forecast_capacity",
    "evaluate_alerts": "regrow.alerts.evaluate_alerts",
    "cleanup_temp_files": "regrow.temp_files.cleanup_temp_files",
    "roll_up_results": "regrow.slo.roll_up_results",
    "generate_reliability_report": "regrow.reports.generate_reliability_report",
    "cleanup_old_dlq_messages": "regrow.dead_letters.cleanup_old_dlq_messages",
    "fold_dead_letter_ledger": "regrow.dead_letters.fold_dead_letter_ledger",
    "prune_history": "regrow.jobs.prune_history",
}
"""The name of each interval in ``[schedule]``, and the task it starts."""


def entries(settings: Settings) -> dict[str, dict[str, Any]]:
    """Celery's ``beat_schedule``. Jobs take their arguments from the settings, not from here."""
    return {name: entry(task, float(getattr(settings.schedule, name))) for name, task in TASKS.items()}


def entry(task: str, interval: float) -> dict[str, Any]:
    """One job every ``interval`` seconds, worth running only until the next one is sent."""
    return {"task": task, "schedule": interval, "options": {"expires": interval}}
