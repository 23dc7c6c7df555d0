"""With each configuration of the logging example, every line is mozlog."""

from __future__ import annotations

import json
import textwrap

import pytest
from commands import ON_LOOPBACK, documented, served
from programs import run

APP = "examples.logging.app:wrapped_app"
LOGGER = "examples.logging.app"
CONFIGURATIONS = ["dictConfig", "fileConfig", "gunicorn.conf.py"]
JSON, INI, PYTHON = documented("logging/app.py")
ENVELOPE = {
    "Timestamp": int,
    "Type": str,
    "Logger": str,
    "Hostname": str,
    "EnvVersion": str,
    "Severity": int,
    "Pid": int,
    "Fields": dict,
}


def assert_mozlog(lines):
    """Check that each line has the whole envelope."""
    for line in lines:
        assert {key: type(value) for key, value in line.items()} == ENVELOPE
        assert line["Logger"] == "acme"


def other_app(directory, source):
    """Write an app, ``other_app:app``, and return environment variables to find it."""
    (directory / "other_app.py").write_text(source)
    return {"GUNICORN_CMD_ARGS": f"{ON_LOOPBACK} --pythonpath {directory}"}


@pytest.mark.parametrize("command", [JSON, INI, PYTHON], ids=CONFIGURATIONS)
def test_every_line_is_mozlog(command):
    """The lines of the start, a page, a traceback and the end are mozlog, each once."""
    with served(command) as example:
        assert example.get("/").status == 200
        assert example.get("/broken").status == 500
        assert example.stop() == 0
        lines = example.lines()
        fine, broken = example.logged("request.summary")
        gunicorn = example.logged("gunicorn.error")
    assert_mozlog(lines)
    assert {line["Type"] for line in lines} == {"gunicorn.error", "request.summary", LOGGER}
    texts = [fields["msg"] for fields in gunicorn]
    assert len(texts) == len(set(texts))
    assert texts[0].startswith("Starting gunicorn")
    assert any(text.startswith("Worker exiting") for text in texts)
    (error,) = [line["Fields"] for line in lines if "traceback" in line["Fields"]]
    assert error["error"] == "RuntimeError('This page is broken')"
    assert error["traceback"].endswith("RuntimeError: This page is broken")
    assert (fine["code"], broken["msg"]) == (200, "This page is broken")


@pytest.mark.parametrize("command", [JSON, PYTHON], ids=["dictConfig", "gunicorn.conf.py"])
def test_records_of_the_app_have_the_request_id(command):
    """The filter adds the request ID to the records of the app's logger."""
    with served(command) as example:
        answer = example.get("/")
        example.stop()
        (logged,) = example.logged(LOGGER)
    assert logged["rid"] == answer.headers["X-Request-ID"]
    assert logged["page"] == "/"


@pytest.mark.parametrize("command", [JSON, INI, PYTHON], ids=CONFIGURATIONS)
def test_an_import_error_is_logged_as_mozlog(command, tmp_path):
    """An import error is mozlog on stdout; gunicorn's plain text is on stderr only."""
    environment = other_app(tmp_path, "import os\n\nos.environ['NOT_SET']\n")
    ended = run(command.replace(APP, "other_app:app"), **environment)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode != 0
    assert_mozlog(lines)
    assert [line["Fields"]["error"] for line in lines if "error" in line["Fields"]] == [
        "KeyError('NOT_SET')"
    ]


def test_warnings_are_mozlog(tmp_path):
    """Python's warnings are mozlog with the configuration in Python."""
    source = """
    import warnings

    def app(environ, start_response):
        warnings.warn("This is old", DeprecationWarning)
        start_response("200 OK", [])
        return []
    """
    environment = other_app(tmp_path, textwrap.dedent(source)) | {"PYTHONWARNINGS": "default"}
    with served(PYTHON.replace(APP, "other_app:app"), **environment) as example:
        example.get("/")
        example.stop()
        assert_mozlog(example.lines())
        warned = [fields["msg"] for fields in example.logged("py.warnings")]
    assert any("DeprecationWarning: This is old" in text for text in warned)
