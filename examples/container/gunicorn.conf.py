"""gunicorn in a container; it finds this file by itself, in the directory where it is started."""

import os

bind = f"0.0.0.0:{os.environ.get('PORT') or '8000'}"

# One worker, or WEB_CONCURRENCY of them. Start more containers instead.
# With threads, a probe does not wait for slow requests.
threads = 4

# Each worker imports the app. preload_app = True saves memory, and the middleware allows it: it
# starts threads and connects on the first request, in the worker, not at import.

# In memory: workers update a file here to show that they are alive. A slow disk delays that.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes a private file there

# A socket for gunicornc, in the home directory: the user "app" cannot write there.
control_socket_disable = True

# One line of mozlog for everything, on stdout. There is no access log: each request has its
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
    "loggers": {"gunicorn.error": {"propagate": True}},  # not to its own handler
}
