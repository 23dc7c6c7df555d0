"""What seldom happens to the doctor: output that cannot be written, handlers of other kinds."""

from __future__ import annotations

import logging
import os
import signal
import sys

import pytest
from programs import run, running
from wsgi import hello

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.doctor.app_steps import check_summary, record_logs
from dockerflow_wsgi.logging import MozlogFormatter

APP = "def app(environ, start_response): ...\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_report_that_cannot_be_written_is_told_in_a_line(version_directory):
    """As on a disk that is full: exit code 1, and no traceback."""
    (version_directory / "app.py").write_text(APP)
    command = f"{sys.executable} -m dockerflow_wsgi doctor app:app --json > /dev/full"
    done = run(["bash", "-c", command], cwd=version_directory)
    assert done.returncode == 1
    assert "doctor: error: " in done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_import_that_is_interrupted_is_exit_code_130(version_directory):
    """Ctrl-C before there is any report has the exit code of a shell."""
    code = "import time\nprint('here', flush=True)\ntime.sleep(600)\n"
    (version_directory / "app.py").write_text(code)
    command = [sys.executable, "-m", "dockerflow_wsgi", "doctor", "app:app"]
    with running(command, cwd=version_directory) as program:
        program.wait_for("here")
        assert program.stop(signal.SIGINT) == 130
        assert "Traceback" not in program.output


@pytest.fixture
def have_handler():
    """Return a function that gives the summaries' logger a handler, its only one."""
    logger = logging.getLogger("request.summary")
    before = logger.level, logger.propagate, logger.handlers[:]
    logger.propagate = False
    logger.setLevel(logging.INFO)

    def have(handler):
        logger.handlers[:] = [handler]

    yield have
    logger.propagate, logger.handlers[:] = before[1:]
    logger.setLevel(before[0])


def look(app=None):
    """Look at the summary of an app's request."""
    with record_logs() as logs:
        return check_summary(app or DockerflowMiddleware(hello), logs)


def with_mozlog(handler):
    """Let a handler write mozlog."""
    handler.setFormatter(MozlogFormatter())
    return handler


@pytest.mark.parametrize(("path", "status"), [("/dev/stdout", "ok"), ("summaries.log", "error")])
def test_a_file_is_a_stream_if_it_is_one_of_the_process(have_handler, tmp_path, path, status):
    """Containers log to stdout or stderr, by whatever name."""
    have_handler(with_mozlog(logging.FileHandler(tmp_path / path, delay=True)))
    assert look().status == status
