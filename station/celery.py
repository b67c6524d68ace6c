"""The Celery application: a doorbell on Valkey, nothing more. State lives in PostgreSQL."""

from celery import Celery

from station.config import current

config = current()
app = Celery("station", fixups=["celery.fixups.django:DjangoFixup"])
app.conf.update(
    broker_url=config.redis.url.get_secret_value(),
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=2,
    broker_connection_max_retries=None,
    broker_transport_options={
        # Publishing from a request must fail at once when the broker is away; the consumer has its
        # own, endless retries.
        "max_retries": 0,
        "socket_connect_timeout": 2,
        "socket_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": False,
    },
    accept_content=["json"],
    task_serializer="json",
    result_backend=None,
    task_ignore_result=True,
    task_default_queue="station",
    worker_concurrency=config.execution_queue.workers,
    worker_pool="threads",
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_acks_late=False,
)
app.autodiscover_tasks(["runs"])
