"""gunicorn's own logs as mozlog, and the app's: app.py tells how to run it.

One thing remains plain text: of an app that cannot be imported, gunicorn also prints the
exception to stderr, besides the line with the traceback; with preload_app it does only that.
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
    # In place of gunicorn's defaults, which name its own handlers. Its records go on to the root's.
    "loggers": {"gunicorn.error": {"propagate": True}},
}
