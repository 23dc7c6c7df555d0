"""A Django app in one file that complies with Dockerflow.

    pip install '.[django]' gunicorn
    python -m examples.django_app migrate
    gunicorn examples.django_app:application

The database is an SQLite file in this directory. The environment variable SQLITE_FILE names another
file, and ALLOWED_HOSTS the hosts that Django allows, separated by commas.
"""

import os
import sys
from pathlib import Path

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

from dockerflow_wsgi import DockerflowMiddleware, get_request_id
from dockerflow_wsgi.django import (
    check_caches,
    check_databases,
    check_migrations,
    check_system,
    connections_closed,
)

HERE = Path(__file__).parent

settings.configure(
    ALLOWED_HOSTS=os.environ.get("ALLOWED_HOSTS", "localhost").split(","),
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("SQLITE_FILE") or HERE / "django.sqlite3",
        },
    },
    INSTALLED_APPS=["django.contrib.sessions"],
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "mozlog": {
                "()": "dockerflow_wsgi.logging.MozlogFormatter",
                "logger_name": "django_app",
            },
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
        "loggers": {"django": {"handlers": []}},  # removes Django's handlers
    },
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "not-for-production"),
)


def visits(request):
    """Count the visits of a session, which is stored in the database."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    request.environ["dockerflow.summary"]["context"] = "visits"
    return JsonResponse({"visits": request.session["visits"], "request_id": get_request_id()})


urlpatterns = [path("", visits)]

# The middleware serves the endpoints before Django: for any Host, without a session or a redirect.
application = dockerflow = DockerflowMiddleware(
    get_wsgi_application(), check_context=connections_closed, version_path=HERE
)
dockerflow.check(check_databases)
dockerflow.check(check_migrations)
dockerflow.check(check_caches)
dockerflow.check(check_system)

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
