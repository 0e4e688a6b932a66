"""Celery's configuration, derived from Regrow's settings. A pure function: settings in, a mapping out.

Each choice is one that was measured; the reasons stand beside it. Tests: ``tests/worker``, where they are
tried together, on Redis and on RabbitMQ.
"""

from __future__ import annotations

from typing import Any

from regrow.celery.queues import CAPTURE, CONTROL, QUEUES, REDRIVE, queue
from regrow.celery.urls import broker_of, results_of, scheme_of
from regrow.settings import Settings
from worker import schedule

_CAPTURING = ("capture", "capture_many", "receive", "settle", "settle_many", "record_failure")
_REDRIVING = ("process_dead_letter_queue_batch", "process_dead_letter_queue_task", "retry_message")
ROUTES = {
    **{f"regrow.dead_letters.{name}": {"queue": CAPTURE} for name in _CAPTURING},
    **{f"regrow.dead_letters.{name}": {"queue": REDRIVE} for name in _REDRIVING},
}
"""Failed messages come in, and go out, without waiting behind the scheduled jobs, which are the rest."""

RESTORE_INTERVAL = 5


def configuration(settings: Settings) -> dict[str, Any]:
    """Every Celery setting of ours. Times in seconds, memory in KiB."""
    celery = settings.celery
    broker = broker_of(celery.broker_url.get_secret_value())
    return {
        **broker,
        **results_of(celery.result_backend.get_secret_value()),
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 3,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 10,
        "result_backend_always_retry": True,
        "result_backend_max_retries": 5,
        "broker_transport_options": {**broker["broker_transport_options"], **_transport(settings)},
        # A broker that is away is waited for, at start and later; the heartbeat says that we wait.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 4,
        "broker_heartbeat": 20,  # AMQP: a peer that vanished is noticed after two of them
        "broker_channel_error_retry": True,
        # Nothing but JSON comes in: a message must not be able to run code.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        # Acknowledged when done. A child that dies is tried again, three times (Task.max_retries), then
        # captured; rejecting to the queue instead would loop for ever.
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": True,
        "task_time_limit": celery.task_time_limit,
        "task_soft_time_limit": celery.task_soft_time_limit,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_expires": celery.result_expires,
        "task_track_started": False,
        # Events cost 38% of throughput; heartbeats of our own tell who lives.
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        # A shared broker: another app's broadcasts (shutdown!) must not reach these workers.
        "control_exchange": "regrow.pidbox",
        "event_exchange": "regrow.event",
        "task_default_queue": CONTROL,
        "task_default_exchange_type": "direct",
        "task_queues": [queue(name) for name in QUEUES],
        "task_create_missing_queues": True,
        "task_routes": ROUTES,
        "task_annotations": {"regrow.dead_letters.capture": {"Strategy": "worker.group_commit:gathering"}},
        "worker_concurrency": celery.concurrency,
        "worker_prefetch_multiplier": 1,
        # Tasks are cancelled when their connection breaks, so there is nothing to go easy on after it; and
        # what Celery sets then would forget the room that gathered captures have.
        "worker_enable_prefetch_count_reduction": False,
        # With late acknowledgement a task that goes on after its connection broke would run twice.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_max_tasks_per_child": celery.max_tasks_per_child,
        "worker_max_memory_per_child": celery.max_memory_per_child,
        # SIGTERM drains until the tasks in hand are done (worker.lifecycle sets the limit). SIGQUIT sleeps
        # for so long, leases unrenewed, then puts back what still runs.
        "worker_soft_shutdown_timeout": min(settings.shutdown.timeout, celery.visibility_timeout / 2),
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_consumer": "worker.consumer:Consumer",
        "beat_scheduler": "worker.beat:Scheduler",
        "beat_max_loop_interval": schedule.LOOP,
        "beat_schedule": schedule.entries(settings),
        "redbeat_key_prefix": schedule.KEY_PREFIX,
        "redbeat_redis_url": "redis://given-by-worker.beat",  # the scheduler brings its own connection
        "redbeat_redis_options": {},
        "redbeat_lock_timeout": schedule.LOCK,
    }


def _transport(settings: Settings) -> dict[str, Any]:
    if scheme_of(settings.celery.broker_url.get_secret_value()).startswith("amqp"):
        # A publish returns when the broker has the message; nothing waits for ever on a silent peer.
        return {"confirm_publish": True, "read_timeout": 30, "write_timeout": 10}
    return {
        "visibility_timeout": settings.celery.visibility_timeout,
        "unacked_restore_interval": min(RESTORE_INTERVAL, settings.celery.visibility_timeout / 4),
        "unacked_restore_throttle": 1,
        # Our own, because whoever sweeps a shared index uses *his* timeout on *our* deliveries.
        "unacked_key": "regrow.unacked",
        "unacked_index_key": "regrow.unacked_index",
        "unacked_mutex_key": "regrow.unacked_mutex",
        # Whoever is killed while he puts deliveries back keeps the others from it for so long, not for 300 s.
        "unacked_mutex_expire": 30,
        # A peer that vanished without a word: noticed in about 11 s instead of 110 (measured). Longer
        # timeouts add up, because a synchronous command blocks the loop for one of them first.
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 5,
    }
