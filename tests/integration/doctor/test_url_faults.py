"""``doctor --url``: services that answer some requests only, or speak TLS."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from waiting import TIMEOUT_S

from dockerflow_wsgi.doctor.url_steps import MAX_BYTES, examine_one, parse_url

VERSION = {"source": "https://x.test", "version": "1.0", "commit": "abc", "build": "42"}
NOTHING = None  # the connection is closed without an answer


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's ``answers``, by method and path."""

    def do_GET(self):
        answer = self.server.answers.get(f"{self.command} {self.path}", (404, b""))
        if answer is NOTHING:
            return
        code, body = answer
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # not all of it may be read
            self.wfile.write(body if self.command != "HEAD" else b"")

    do_HEAD = do_TRACE = do_GET  # noqa: N815 - the base class's names

    def log_message(self, *_arguments):
        """Log nothing."""


FINE = {
    "GET /__version__": (200, json.dumps(VERSION).encode()),
    "GET /__heartbeat__": (200, b'{"status": "ok", "checks": {}}'),
    "GET /__lbheartbeat__": (200, b""),
    "HEAD /__lbheartbeat__": (200, b""),
    "TRACE /__lbheartbeat__": (405, b""),
}


@contextlib.contextmanager
def service_with(answers):
    """Serve answers in addition to good ones; yield the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers = {**FINE, **answers}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def look(url, skip=()):
    """Return the results of the steps by name."""
    results = [result.to_dict() for result in examine_one(parse_url(url, TIMEOUT_S), skip)]
    return {result["name"]: SimpleNamespace(**result) for result in results}


def look_with(answers, skip=()):
    """Serve answers, and return the results of the steps by name."""
    with service_with(answers) as url:
        return look(url, skip)


def red(findings):
    """Return the names of the steps that failed."""
    return [name for name, finding in findings.items() if finding.status == "error"]


class TestAnswers:
    """A service may answer some requests only."""

    def test_a_method_without_an_answer(self):
        """A method without an answer, as behind a proxy, is reported and not a failure."""
        findings = look_with({"TRACE /__lbheartbeat__": NOTHING})
        assert red(findings) == []
        assert findings["methods"].message.startswith(
            "HEAD is answered 200, TRACE is not answered ("
        )
        assert "no HTTP answer" in findings["methods"].message

    def test_an_endpoint_without_an_answer(self):
        """The step of this endpoint fails, and the others pass."""
        findings = look_with({"GET /__version__": NOTHING})
        assert "no HTTP answer" in findings["endpoint_version"].message
        assert "log" in findings["endpoint_version"].remedy
        assert findings["endpoint_heartbeat"].status == "ok"
        assert findings["endpoint_lbheartbeat"].status == "ok"

    @pytest.mark.parametrize("code", [400, 405, 429])
    def test_a_refusal(self, code):
        """A status of a layer before the endpoints is a failure."""
        findings = look_with({"GET /__lbheartbeat__": (code, b"")})
        assert red(findings) == ["endpoint_lbheartbeat"]
        assert f"/__lbheartbeat__ answers {code} " in findings["endpoint_lbheartbeat"].message
        assert "DockerflowMiddleware" in findings["endpoint_lbheartbeat"].remedy

    def test_a_long_body(self):
        """At most `MAX_BYTES` of a body are read."""
        body = b'"' + b"x" * (MAX_BYTES * 3) + b'"'
        findings = look_with({"GET /__version__": (200, body)})
        assert "not with a JSON object" in findings["endpoint_version"].message
        with service_with({"GET /long": (200, body)}) as url:
            answer = parse_url(url, TIMEOUT_S).get("/long")
        assert answer.data == body[:MAX_BYTES]

    def test_skip(self):
        """Steps of the connection can be skipped; the others run."""
        findings = look_with({}, skip=["dns", "protocol"])
        status = {name: findings[name].status for name in ("dns", "tcp", "protocol")}
        assert status == {"dns": "skipped", "tcp": "ok", "protocol": "skipped"}
        assert findings["endpoint_version"].status == "ok"


class TestTLS:
    """A service with TLS is requested over TLS."""

    def test_https(self, tls_port, certificate, monkeypatch):
        """An untrusted certificate fails at `tls`; a trusted one passes."""
        url = f"https://localhost:{tls_port}"
        untrusted = look(url)
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        trusted = look(url)
        assert red(untrusted) == ["tls"]
        assert untrusted["protocol"].status == "skipped"
        assert trusted["tls"].message.startswith("TLSv1")
        assert trusted["protocol"].status == "ok"
        assert "answers 501" in trusted["endpoint_lbheartbeat"].message
