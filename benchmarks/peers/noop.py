"""A Celery app with one task that does nothing: what Celery itself costs, with Celery's own settings."""

import os

from celery import Celery

app = Celery("noop", broker=os.environ["CELERY_BROKER_URL"])
app.conf.update(task_default_queue="noop", task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop(*_args, **_options):
    """Nothing."""
