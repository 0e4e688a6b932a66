from regrow.gunicorn import post_worker_init, worker_exit

__all__ = ["post_worker_init", "worker_exit"]
graceful_timeout = 20
keepalive = 5
