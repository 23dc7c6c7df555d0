"""Logs the records of gunicorn and of the app as mozlog; app.py has the command.

If an app cannot be imported, gunicorn also prints the exception to stderr as plain text. With
preload_app, it only prints the exception.
"""

import logging

# Log Python's warnings, which are printed to stderr as plain text by default.
logging.captureWarnings(True)

# There is no access log, because each request has a request.summary.

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
    # Removes gunicorn's handlers, so that its records reach the root's handler.
    "loggers": {"gunicorn.error": {"propagate": True}},
}
