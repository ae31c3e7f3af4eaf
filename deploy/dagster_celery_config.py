"""Celery's settings, for the workers and for the runs that send steps to them. Both read this file: they must agree.

A worker finds it by its name, which dagster-celery looks for. It starts as `celery --app dagster_celery.app worker` and
not as `dagster-celery worker start`: that command does not pass SIGTERM on to the worker, so that every stop would kill
the steps that run.
"""

import os

# The default is AMQP. Without both addresses, nothing says that steps wait for a broker that does not exist.
broker_url = os.environ["CELERY_BROKER_URL"]
result_backend = os.environ["CELERY_RESULT_BACKEND"]

# A step is acknowledged when it has ended. If its process is killed, then the step is delivered again, at once. By
# default it is acknowledged when it begins, and a killed step is lost, with a run that waits for it.
task_acks_late = True
task_reject_on_worker_lost = True

# A worker reserves no steps beyond those that it executes. Steps that it had reserved would be lost with it.
worker_prefetch_multiplier = 1

# After this time, Redis delivers a step that is not acknowledged to another worker, whether or not the first still
# executes it. So it is longer than `max_runtime_seconds` in dagster.yaml, after which no run waits for the step. Six
# hours.
broker_transport_options = {"visibility_timeout": 21600}
result_backend_transport_options = {"visibility_timeout": 21600}

# A worker that loses Redis stops its steps, because Redis delivers them to others.
worker_cancel_long_running_tasks_on_connection_loss = True

# A worker that starts before Redis waits for it.
broker_connection_retry_on_startup = True

# A run that has failed is retried by Dagster; see dagster.yaml. The results of its steps are of no use afterwards.
result_expires = 86400

EXECUTOR_CONFIG = {
    "broker": broker_url,
    "backend": result_backend,
    "config_source": {
        "task_acks_late": task_acks_late,
        "task_reject_on_worker_lost": task_reject_on_worker_lost,
        "worker_prefetch_multiplier": worker_prefetch_multiplier,
        "broker_transport_options": broker_transport_options,
        "result_backend_transport_options": result_backend_transport_options,
        "result_expires": result_expires,
    },
}
"""The same for `celery_executor`."""
