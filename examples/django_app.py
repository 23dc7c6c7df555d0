"""A Django app in one file that complies with Dockerflow.

    pip install . django gunicorn
    gunicorn examples.django_app:application

The database is an SQLite file beside this one; the environment variable SQLITE_FILE names another
file, and ALLOWED_HOSTS the hosts that Django answers for, separated by commas.
"""

import os
from contextlib import closing
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection
from django.http import JsonResponse
from django.urls import path

from dockerflow_wsgi import DockerflowMiddleware, checks, get_request_id

HERE = Path(__file__).parent

settings.configure(
    ALLOWED_HOSTS=os.environ.get("ALLOWED_HOSTS", "localhost").split(","),
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("SQLITE_FILE") or HERE / "django.sqlite3",
        },
    },
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
        "loggers": {"django": {"handlers": []}},  # Django's own would mail errors, or print them
    },
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF=__name__,
)


def clock(request):
    """Tell what time the database says it is."""
    request.environ["dockerflow.summary"]["context"] = "clock"
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
        (now,) = cursor.fetchone()
    return JsonResponse({"now": now, "request_id": get_request_id()})


urlpatterns = [path("", clock)]

# The endpoints are answered before Django: for any Host, without a session or a redirect.
application = dockerflow = DockerflowMiddleware(get_wsgi_application(), version_path=HERE)


@dockerflow.check
def database_answers():
    """Ask the database, on a connection of this check's own: Django has one for each thread."""
    try:
        with closing(connection), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return [checks.Error(str(error), id="django_app.E001", hint="Is SQLITE_FILE right?")]
    return []
