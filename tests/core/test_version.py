"""The version object: where it is read from, and how a wrong one is reported."""

from __future__ import annotations

import json
import os
import socket

import pytest
from odd_objects import cycle
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, version
from dockerflow_wsgi.errors import VersionError
from dockerflow_wsgi.version import VersionFile, get_version


def ask(app):
    """Request the version, and return status and JSON."""
    response = request(app, "/__version__")
    return response.status, json.loads(response.body)


def write(directory, content):
    """Write a version.json."""
    (directory / "version.json").write_bytes(content)


class TestContent:
    """``/__version__`` responds with the content of ``version.json``."""

    def test_the_content_of_the_file_is_answered(self, version_directory):
        """The response has all keys of the file, also those beyond the standard."""
        write(
            version_directory,
            '{"commit": "c", "größe": [1, 2.5, null, true, {"a": "\\ud83d"}]}'.encode(),
        )
        status, body = ask(DockerflowMiddleware(hello, version_path=str(version_directory)))
        assert status == "200 OK"
        assert body == {"commit": "c", "größe": [1, 2.5, None, True, {"a": "\ud83d"}]}

    def test_get_version_reads_a_directory(self, version_directory, tmp_path_factory):
        """``get_version`` returns the object, or ``None`` without a file."""
        assert get_version(version_directory)["build"] == "42"
        assert get_version(str(tmp_path_factory.mktemp("empty"))) is None

    def test_without_a_file_the_answer_is_404(self, tmp_path, listen):
        """The response names the file and the remedy; the log has the full path."""
        errors = listen("dockerflow_wsgi")
        status, body = ask(DockerflowMiddleware(hello, version_path=tmp_path))
        assert status == "404 Not Found"
        assert body["error"].startswith("version.json not found: ")
        assert str(tmp_path) not in body["error"]
        assert str(tmp_path / "version.json") in errors[0].getMessage()

    def test_a_file_of_64_kib_is_served(self, tmp_path):
        """A file with 65,536 bytes, the limit, is served."""
        frame = len(b'{"a": ""}')
        write(tmp_path, b'{"a": "%s"}' % (b"x" * (64 * 1024 - frame)))
        assert ask(DockerflowMiddleware(hello, version_path=tmp_path))[0] == "200 OK"

    def test_a_missing_file_is_logged_with_its_full_path(self, tmp_path, monkeypatch, listen):
        """The log has the full path of a relative directory; the response has the base name."""
        monkeypatch.chdir(tmp_path)
        log = listen("dockerflow_wsgi")
        code, answer = ask(DockerflowMiddleware(hello, version_path="."))
        assert code == "404 Not Found"
        assert str(tmp_path) not in str(answer)
        assert [made.getMessage() for made in log] == [
            f"/__version__: file not found: {tmp_path / 'version.json'}"
        ]


class TestWrongFile:
    """A file that cannot be served is a 500 with the reason."""

    def test_the_error_of_a_value_is_redacted(self, version_directory):
        """Credentials in the error of a value that is not JSON are in no response."""

        class Odd(dict):
            def items(self):
                raise ValueError("redis://:s3cr3t@cache")

        app = DockerflowMiddleware(hello, version_path=str(version_directory))
        app.version_callback(lambda _root: Odd(a=Odd(b=1)))
        status, body = ask(app)
        assert "redis://:***@cache" in body["error"]
        assert status.startswith("500")

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "is not JSON"),
            (b"{", "is not JSON"),
            (b"\xff\xfe\xfa", "is not JSON"),
            (b'{"a": NaN}', "NaN is not a JSON value"),
            (b'{"a": 1e999}', "cannot be written as JSON"),
            (b"[]", "is a JSON list: expected a JSON object"),
            (b'"1.0"', "is a JSON str"),
            (b"null", "is a JSON NoneType"),
            (b'{"a": "%s"}' % (b"x" * 70_000), "is larger than 64 KiB"),
        ],
    )
    def test_a_wrong_file_is_a_500_with_the_reason(self, tmp_path, listen, content, problem):
        """The body names the file by its base name; the log has the full path."""
        errors = listen("dockerflow_wsgi")
        write(tmp_path, content)
        status, body = ask(DockerflowMiddleware(hello, version_path=tmp_path))
        assert status == "500 Internal Server Error"
        assert problem in body["error"]
        assert body.keys() == {"error"}
        assert str(tmp_path) not in body["error"]
        assert "/__version__" in errors[0].getMessage()
        assert body["error"].startswith("version.json ")
        assert str(tmp_path / "version.json") in errors[0].getMessage()

    def test_a_deeply_nested_file_is_served_or_refused(self, tmp_path, listen):
        """Deeply nested JSON is served or an error, depending on the version of Python."""
        listen("dockerflow_wsgi")
        write(tmp_path, b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}")
        result = request(DockerflowMiddleware(hello, version_path=tmp_path), "/__version__")
        assert result.status in ("200 OK", "500 Internal Server Error")

    def test_a_wrong_file_in_a_relative_directory_is_logged_with_its_full_path(
        self, tmp_path, monkeypatch, listen
    ):
        """The log has the full path, because its reader does not know the working directory."""
        errors = listen("dockerflow_wsgi")
        write(tmp_path, b"oops")
        monkeypatch.chdir(tmp_path)
        assert ask(DockerflowMiddleware(hello, version_path="."))[0].startswith("500")
        assert f"{tmp_path}/version.json" in errors[0].getMessage()

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink(path, path)])
    def test_something_that_is_not_a_regular_file_is_a_500(self, tmp_path, make):
        """A directory, a pipe without a writer and a link to itself are reported, not read."""
        make(tmp_path / "version.json")
        status, body = ask(DockerflowMiddleware(hello, version_path=tmp_path))
        assert status == "500 Internal Server Error"
        assert body["error"].startswith("version.json ")

    def test_a_socket_is_a_500(self, tmp_path, monkeypatch):
        """A socket under the file's name is reported, not read."""
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as special:
            special.bind("version.json")
            assert ask(DockerflowMiddleware(hello, version_path="."))[0].startswith("500")

    def test_an_unreadable_file_is_a_500(self, version_directory, monkeypatch):
        """The response has the system's reason and a remedy."""

        def refuse(*_arguments, **_keywords):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(version, "open", refuse, raising=False)  # root may read everything
        status, body = ask(DockerflowMiddleware(hello, version_path=version_directory))
        assert status == "500 Internal Server Error"
        assert body["error"] == "version.json cannot be read (Permission denied): make it readable"

    def test_get_version_raises_a_version_error(self, tmp_path):
        """A wrong file raises a ``ValueError`` that has the full path as an attribute."""
        write(tmp_path, b"[]")
        with pytest.raises(VersionError, match="expected a JSON object") as caught:
            get_version(tmp_path)
        assert isinstance(caught.value, ValueError)
        assert caught.value.path == str(tmp_path / "version.json")


class TestChangedFile:
    """The file is read again only when it has changed."""

    def test_an_unchanged_file_is_not_parsed_again(self, version_directory, monkeypatch):
        """The file is read again only when it has changed."""
        os.utime(version_directory / "version.json", (1_000_000_000, 1_000_000_000))
        file = VersionFile([str(version_directory)])
        first = file.read()
        monkeypatch.setattr(version, "open", None, raising=False)
        assert file.read() is first

    def test_a_changed_file_is_served_without_a_restart(self, tmp_path):
        """A change is seen even if it happens within one tick of the clock, with the same size."""
        app = DockerflowMiddleware(hello, version_path=tmp_path)
        for number in range(50):
            write(tmp_path, b'{"n": "%02d"}' % number)
            assert ask(app) == ("200 OK", {"n": f"{number:02}"})
        (tmp_path / "version.json").unlink()
        assert ask(app)[0] == "404 Not Found"
        write(tmp_path, b"{}")
        assert ask(app) == ("200 OK", {})

    def test_a_young_file_that_only_looks_unchanged_is_read_again(self, tmp_path, monkeypatch):
        """A young file is read each time, because its time stamp may not have changed."""
        write(tmp_path, b'{"n": 1}')
        file = VersionFile([str(tmp_path)])
        path, stat = str(tmp_path / "version.json"), os.stat
        status = stat(path)
        monkeypatch.setattr(os, "stat", lambda p, **k: status if p == path else stat(p, **k))
        assert json.loads(file.read()) == {"n": 1}
        write(tmp_path, b'{"n": 2}')
        assert json.loads(file.read()) == {"n": 2}

    def test_a_corrected_file_is_served(self, tmp_path):
        """A file that was wrong is served without a restart once it is right."""
        app = DockerflowMiddleware(hello, version_path=tmp_path)
        write(tmp_path, b"oops")
        assert ask(app)[0] == "500 Internal Server Error"
        write(tmp_path, b'{"a": 1}')
        assert ask(app) == ("200 OK", {"a": 1})


class TestDirectories:
    """The file is looked up in the directories of ``version_path``, in order."""

    def test_by_default_the_current_directory_follows_app(self, version_directory, monkeypatch):
        """If /app has no file, the file in the working directory is served."""
        assert not os.path.exists("/app/version.json")
        monkeypatch.chdir(version_directory)
        assert ask(DockerflowMiddleware(hello))[1]["build"] == "42"

    def test_a_deleted_working_directory_is_a_404(self, tmp_path, monkeypatch):
        """A relative path in a deleted directory is an absent file."""
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert ask(DockerflowMiddleware(hello, version_path="."))[0] == "404 Not Found"

    def test_the_first_directory_that_has_the_file_is_used(
        self, version_directory, tmp_path_factory
    ):
        """Directories without the file are skipped, even if they do not exist."""
        empty = str(tmp_path_factory.mktemp("empty"))
        file = VersionFile([empty, "/no/such/directory", str(version_directory)])
        assert file.directory() == str(version_directory)
        assert VersionFile([empty, "/no/such/directory"]).directory() == empty

    def test_a_broken_link_is_not_skipped(self, version_directory, tmp_path_factory):
        """The file of a later directory is not served, because it may be of another release."""
        directory = tmp_path_factory.mktemp("linked")
        (directory / "version.json").symlink_to("gone.json")
        assert VersionFile([str(directory), str(version_directory)]).read() is None


class TestCallback:
    """A function can return the version object."""

    def test_the_callback_is_called_with_the_version_path(self, tmp_path):
        """The mapping that the callback returns is served instead of the file."""
        app = DockerflowMiddleware(hello, version_path=tmp_path)

        @app.version_callback
        def my_version(root):
            return {"root": root}

        assert ask(app) == ("200 OK", {"root": str(tmp_path)})

    def test_a_callback_may_have_no_version(self):
        """``None`` is answered with 404, like an absent file."""
        app = DockerflowMiddleware(hello)
        app.version_callback(lambda _root: None)
        status, body = ask(app)
        assert status == "404 Not Found"
        assert "callback" in body["error"]

    @pytest.mark.parametrize(
        ("returned", "problem"),
        [
            ("1.0", "returned a str: expected a mapping"),
            ([("a", 1)], "returned a list"),
            ({"a": object()}, "cannot be written as JSON"),
            ({"a": float("inf")}, "cannot be written as JSON"),
            ({(1, 2): "tuple key"}, "cannot be written as JSON"),
            ({"cycle": cycle()}, "cannot be written as JSON"),
        ],
    )
    def test_a_callback_that_returns_something_else_is_a_500(self, returned, problem):
        """The response names the returned type and the expected one."""
        app = DockerflowMiddleware(hello)
        app.version_callback(lambda _root: returned)
        status, body = ask(app)
        assert status == "500 Internal Server Error"
        assert problem in body["error"]

    def test_a_callback_that_raises_is_a_500(self, listen):
        """The exception is in the log and not in the response, which is public."""
        errors = listen("dockerflow_wsgi")
        app = DockerflowMiddleware(hello)

        @app.version_callback
        def broken(root):
            raise RuntimeError("inner reason", root)

        status, body = ask(app)
        assert status == "500 Internal Server Error"
        assert "raised RuntimeError" in body["error"]
        assert "inner reason" not in body["error"]
        assert "inner reason" in errors[0].exc_text
