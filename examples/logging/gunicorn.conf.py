"""gunicorn's own logs and the app's as mozlog; app.py has the command.

If an app cannot be imported, gunicorn also prints the exception to stderr as plain text; with
preload_app it only prints it.
"""

import logging

# Python's warnings, which would go to stderr as plain text, become records.
logging.captureWarnings(True)

# There is no access log: each request has its request.summary.

logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "mozlog": {"()": "dockerflow_wsgi.logging.MozlogFormatter", "logger_name": "acme"},
    },
    "filters": {"request_id": {"()": "dockerflow_wsgi.logging.RequestIdLogFilter"}},
    "handlers": {
        "stdout": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "mozlog",
            "filters": ["request_id"],
        },
    },
    "root": {"handlers": ["stdout"], "level": "INFO"},
    # Replaces gunicorn's default handlers: its records go to the root's handler.
    "loggers": {"gunicorn.error": {"propagate": True}},
}
