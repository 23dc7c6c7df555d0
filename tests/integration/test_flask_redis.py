"""A Flask-Redis object can be passed to the Flask extension."""

from __future__ import annotations

import pytest
from flask import Flask
from flask_redis import FlaskRedis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dockerflow_wsgi.flask import Dockerflow


@pytest.fixture
def app():
    """Make a Flask app."""
    return Flask("acme")


def heartbeat(app):
    """Return the results of the checks."""
    with app.test_client() as client:
        return client.get("/__heartbeat__").json["checks"]


def test_a_flask_redis_that_retries_is_checked(app, redis_url):
    """The check passes for a client with a custom retry policy."""
    app.config["REDIS_URL"] = redis_url
    store = FlaskRedis(app, retry=Retry(NoBackoff(), 2))
    Dockerflow(app, redis=store)
    assert heartbeat(app) == {"check_redis_connected": "ok"}
    store.close()


def test_a_flask_redis_may_be_initialized_later(app, redis_url):
    """The check fails before ``init_app``, and passes after it."""
    store = FlaskRedis()
    Dockerflow(app, redis=store)
    assert heartbeat(app) == {"check_redis_connected": "error"}
    app.config["REDIS_URL"] = redis_url
    store.init_app(app)
    assert heartbeat(app) == {"check_redis_connected": "ok"}
    store.close()
