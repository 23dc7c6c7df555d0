"""Django in a separate process, because its settings belong to the process."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import django
from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import Info, register
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.test import override_settings
from waiting import TIMEOUT_S
from wsgi import request

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.django import (
    check_caches,
    check_databases,
    check_migrations,
    check_system,
    connections_closed,
)

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


@contextmanager
def django_process(databases, caches=None):
    """Start a process with Django; yield a function that calls a function there.

    Args:
        databases: The setting ``DATABASES``.
        caches: The setting ``CACHES``.
    """
    caches = caches or {"default": {"BACKEND": LOCMEM}}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _set_up, (databases, caches)) as pool:
        yield lambda *call, **keywords: pool.submit(*call, **keywords).result(TIMEOUT_S)


def _set_up(databases, caches):
    settings.configure(
        CACHES=caches,
        DATABASES=databases,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        LOGGING_CONFIG=None,
        MIDDLEWARE=["django.middleware.security.SecurityMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="secret",
        SECURE_HSTS_SECONDS=3600,
        TIME_ZONE="UTC",
    )
    django.setup()


urlpatterns = []


def with_settings(changed, function, *arguments, **keywords):
    """Call a function while settings are changed."""
    with override_settings(**changed), connections_closed():
        return function(*arguments, **keywords)


def migrate():
    """Apply all migrations to the default database."""
    with connections_closed():
        call_command("migrate", verbosity=0)


def heartbeats(count=1):
    """Send heartbeats with every check; return the last response as status and JSON."""
    dockerflow = DockerflowMiddleware(WSGIHandler(), check_context=connections_closed)
    for check in (check_databases, check_migrations, check_caches, check_system):
        dockerflow.check(check)
    for _ in range(count):
        response = request(dockerflow, "/__heartbeat__")
    return response.status, json.loads(response.body)


def register_check():
    """Register a system check of the app."""
    register(lambda **_options: [Info("found", hint="look", id="app.I001")])


class ForgetfulCache(LocMemCache):
    """A cache that stores nothing, like memcached with a client that ignores errors."""

    def get(self, *_arguments, **_keywords):
        return None


class LateCache(LocMemCache):
    """A cache with a replica that is late: the first read finds nothing."""

    gets = 0

    def get(self, *arguments, **keywords):
        self.gets += 1
        return super().get(*arguments, **keywords) if self.gets > 1 else None


class BrokenCache(LocMemCache):
    """A cache with a server that is down."""

    def set(self, *_arguments, **_keywords):
        raise ConnectionError("no connection to redis://:secret@cache:6379")
