"""The configuration of gunicorn, which reads this file from its working directory."""

import os

bind = f"0.0.0.0:{os.environ.get('PORT') or '8000'}"

# One worker by default (WEB_CONCURRENCY): start more containers instead of workers.
# With threads, probes do not wait for slow requests.
threads = 4

# Each worker imports the app. preload_app = True saves memory, and the middleware supports it: its
# threads start on the first request, in the worker.

# In memory: workers regularly update a file to show that they are alive, which a slow disk delays.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes a private file there

# The socket of gunicornc would be in the home directory, where the user "app" cannot write.
control_socket_disable = True

# Every record is a line of mozlog on stdout. There is no access log, because each request has a
# request.summary.
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "dockerflow_wsgi.logging.RequestIdLogFilter"}},
    "handlers": {
        "stdout": {
            "class": "dockerflow_wsgi.logging.MozlogHandler",
            "name": "acme",
            "filters": ["request_id"],
        },
    },
    "root": {"handlers": ["stdout"], "level": os.environ.get("LOG_LEVEL", "INFO")},
    "loggers": {"gunicorn.error": {"propagate": True}},  # to the root's handler
}
