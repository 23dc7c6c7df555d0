"""The request ID in gunicorn's access log, which is written before ``close()``."""

from __future__ import annotations

import contextlib
import json
from http.client import HTTPException

import pytest
from servers import gunicorn_server
from waiting import wait_until

CONFIG = """
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"mozlog": {"()": "dockerflow_wsgi.logging.MozlogFormatter"}},
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
    "loggers": {"gunicorn.access": {"level": "INFO", "propagate": True}},
}
access_log_format = "%(U)s"
"""
WORKERS = {
    "sync": (),
    "gthread": ("--worker-class=gthread", "--threads=2"),
    "gevent": ("--worker-class=gevent",),
}


@pytest.fixture(scope="module", params=WORKERS)
def server(request, tmp_path_factory):
    """Serve the pages with gunicorn and an access log."""
    config = tmp_path_factory.mktemp("gunicorn") / "gunicorn.conf.py"
    config.write_text(CONFIG)
    options = ("--config", str(config), "--pythonpath", "tests/integration")
    with gunicorn_server("adapter_app:application", *options, *WORKERS[request.param]) as program:
        yield program


@pytest.mark.parametrize("path", ["/list", "/generator", "/flask", "/broken"])
def test_the_access_log_has_the_request_id(server, path):
    """The line of a request in the access log has its ID, although its summary is logged."""
    request_id = f"access-{path[1:]}"
    with contextlib.suppress(HTTPException):  # a body that raises is cut off
        server.get(path, **{"X-Request-ID": request_id})

    def logged():
        lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
        return [line["Type"] for line in lines if line["Fields"].get("rid") == request_id]

    wait_until(lambda: "gunicorn.access" in logged())
    assert logged()[:3] == ["adapter_app", "request.summary", "gunicorn.access"]
