"""One instance of a service behind a proxy.

The environment has its name ``INSTANCE``, ``LOG_FILE`` and ``LOG_LEVEL``, and optionally
``REDIS_URL``, or ``DATABASE_URL`` and ``SCRIPTS`` of a database with migrations.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from alembic.config import Config
from redis import Redis
from sqlalchemy import create_engine

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogHandler

log_file = Path(os.environ["LOG_FILE"]).open("a", buffering=1)  # noqa: SIM115 - open to the end
logging.basicConfig(handlers=[MozlogHandler(log_file)], level=os.environ["LOG_LEVEL"])
services = {}
if "REDIS_URL" in os.environ:
    services["redis"] = Redis.from_url(os.environ["REDIS_URL"])
if "DATABASE_URL" in os.environ:
    services["db"] = create_engine(os.environ["DATABASE_URL"])
    services["migrate"] = Config()
    services["migrate"].set_main_option("script_location", os.environ["SCRIPTS"])


def app(environ, start_response):
    """Return the name of the instance and the request's ID."""
    start_response("200 OK", [("Content-Type", "application/json")])
    shown = {"instance": os.environ["INSTANCE"], "id": environ["HTTP_X_REQUEST_ID"]}
    return [json.dumps(shown).encode()]


def received_fields(environ):
    """Return the protocol and the names of the headers that the server received."""
    headers = sorted(key for key in environ if key.startswith("HTTP_"))
    return {"protocol": environ["SERVER_PROTOCOL"], "headers": " ".join(headers)}


wrapped_app = DockerflowMiddleware(
    app,
    **services,
    version_path=Path(__file__).parents[3] / "examples",
    summary_extra=received_fields,
)
