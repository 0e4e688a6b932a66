"""``regrow jobs``: what the scheduled jobs did, newest first."""

from __future__ import annotations

from typing import Any

import click

from regrow import jobs as job_runs
from regrow.cli.output import Column, iso, json_option, lasted, print_json, print_table, visible, when
from regrow.engine import get_engine


@click.command()
@click.option("--job", type=click.Choice(job_runs.JOBS), help="Only the runs of this job.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many runs.")
@json_option
def jobs(job: str | None, limit: int, as_json: bool) -> None:
    """List the runs of the scheduled jobs, newest first."""
    runs = job_runs.recent(get_engine(), job, limit)
    if as_json:
        print_json({"job_runs": [_as_json(run) for run in runs]})
        return
    print_table(
        [
            Column("STARTED", whole=True),
            Column("OUTCOME", whole=True),
            Column("TOOK", whole=True, right=True),
            Column("JOB, AND WHAT IT DID", lines=True),
        ],
        [(when(run.started_at), run.outcome, lasted(run.duration), _did(run)) for run in runs],
        empty="No job has run yet. Beat sends them, a worker runs them: are both up?",
    )


def _did(run: job_runs.JobRun) -> str:
    """The job, and below it its summary's plain values; zeros and nested ones are left to ``--json``."""
    told = ", ".join(
        f"{name}: {visible(value)}"
        for name, value in run.summary.items()
        if isinstance(value, str | int | float) and value
    )
    return f"{visible(run.job)}\n  {told}" if told else visible(run.job)


def _as_json(run: job_runs.JobRun) -> dict[str, Any]:
    return {
        "job": run.job,
        "started_at": iso(run.started_at),
        "duration": run.duration,
        "outcome": run.outcome,
        "summary": run.summary,
        "host": run.host,
    }
