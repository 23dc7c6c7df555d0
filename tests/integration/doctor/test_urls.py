"""``doctor --url``: services that run, in any language, over real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from secrets import token_hex
from types import SimpleNamespace

import pytest
from servers import free_port, gunicorn_server, wsgiref_server
from waiting import TIMEOUT_S
from wsgi import hello

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.doctor.url_steps import examine_one, parse_url

VERSION = {"source": "https://x.test", "version": "1.0", "commit": "abc", "build": "42"}
NAMES = [
    *("dns", "tcp", "protocol", "endpoint_version", "endpoint_heartbeat", "endpoint_lbheartbeat"),
    *("unknown_path", "methods"),
]


class Answers:
    """A service with an answer for each path, and 404 for others."""

    def __init__(self, **answers):
        self.answers = {f"/__{name}__": answer for name, answer in FINE.items()}
        self.answers |= {f"/__{name}__": answer for name, answer in answers.items()}

    def __call__(self, environ, start_response):
        known = self.answers.get(environ["PATH_INFO"], self.answers.get("/__other__"))
        status, content_type, body = known
        start_response(status, [("Content-Type", content_type), ("Location", "/login")])
        return [body]


FINE = {
    "version": ("200 OK", "application/json", json.dumps(VERSION).encode()),
    "heartbeat": ("200 OK", "application/json", b'{"status": "ok", "checks": {}}'),
    "lbheartbeat": ("200 OK", "text/plain", b""),
    "other": ("404 Not Found", "text/plain", b"no such page"),
}


def look_at(*urls, skip=(), timeout_s=TIMEOUT_S):
    """Return the results of services by name, for each URL."""
    found = []
    for url in urls:
        results = [result.to_dict() for result in examine_one(parse_url(url, timeout_s), skip)]
        found.append({result["name"]: SimpleNamespace(**result) for result in results})
    return found


def look(app, skip=()):
    """Serve an app, and return the results by name."""
    with wsgiref_server(app) as port:
        (found,) = look_at(f"http://127.0.0.1:{port}", skip=skip)
    return found


def red(findings):
    """Return the names of the steps that failed."""
    return [name for name, finding in findings.items() if finding.status == "error"]


def hello_or_404(environ, start_response):
    """Be an app with one page."""
    if environ["PATH_INFO"] == "/":
        return hello(environ, start_response)
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b""]


@contextlib.contextmanager
def listener(serve):
    """Serve raw connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=serve, args=[connection], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def drip(connection):
    """Answer a byte at a time, for longer than the limit."""
    with contextlib.suppress(OSError), connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(500):
            connection.sendall(b"x")
            time.sleep(0.02)


def talk_nonsense(connection):
    """Answer with another protocol than HTTP."""
    with connection:
        connection.recv(1000)
        connection.sendall(b"+PONG\r\n")


def serve_version(stack, **version):
    """Serve a version until the test ends, and return the URL."""
    body = json.dumps({**VERSION, **version}).encode()
    port = stack.enter_context(
        wsgiref_server(Answers(version=("200 OK", "application/json", body)))
    )
    return f"http://127.0.0.1:{port}"


class TestGoodServices:
    """A service that complies passes, in any language."""

    def test_any_service(self):
        """All steps pass, in a stable order."""
        findings = look(Answers())
        assert list(findings) == NAMES
        assert {finding.status for finding in findings.values()} == {"ok"}

    def test_the_middleware(self, version_directory):
        """An app with the middleware passes; HEAD and TRACE are reported."""
        findings = look(DockerflowMiddleware(hello_or_404, version_path=version_directory))
        assert red(findings) == []
        assert "HEAD is answered 200, TRACE is answered 405" in findings["methods"].message

    def test_another_heartbeat(self):
        """A heartbeat may be text or any JSON, because Dockerflow prescribes the status only."""
        text = look(Answers(heartbeat=("200 OK", "text/plain", b"fine")))
        other = look(Answers(heartbeat=("200 OK", "application/json", b'{"database": true}')))
        assert text["endpoint_heartbeat"].status == "ok"
        assert other["endpoint_heartbeat"].status == "ok"

    def test_gunicorn(self, doctor):
        """An app that answers 200 to all other paths passes `unknown_path`."""
        with gunicorn_server("apps:fine", "--threads", "4", "--pythonpath", "tests") as gunicorn:
            done = doctor("--url", f"http://127.0.0.1:{gunicorn.port}/", "--json")
        assert done.code == 1
        assert done.red == ["endpoint_version"]
        assert "unlike the endpoints" in done["unknown_path"]["message"]
        assert done["endpoint_lbheartbeat"]["status"] == "ok"


class TestUnknownPath:
    """A service that answers 200 to any path fails."""

    def test_the_same_json_everywhere(self):
        """The endpoints look right, and the step `unknown_path` fails."""
        ok = ("200 OK", "application/json", json.dumps({**VERSION, "status": "ok", "checks": {}}))
        ok = (*ok[:2], ok[2].encode())
        findings = look(Answers(other=ok, version=ok, heartbeat=ok, lbheartbeat=ok))
        assert red(findings) == ["unknown_path"]
        assert "404" in findings["unknown_path"].remedy

    def test_a_page_everywhere(self):
        """An HTML page is not a version."""
        page = ("200 OK", "text/html", b"<h1>Hello</h1>")
        findings = look(Answers(other=page, version=page, heartbeat=page, lbheartbeat=page))
        assert red(findings) == ["endpoint_version", "unknown_path"]

    def test_a_page_beside_the_endpoints(self, version_directory):
        """A page for all other paths differs from the endpoints, and passes."""
        finding = look(DockerflowMiddleware(hello, version_path=version_directory))["unknown_path"]
        assert (finding.status, "unlike the endpoints" in finding.message) == ("ok", True)

    @pytest.mark.parametrize(
        "varies", [lambda environ: environ["PATH_INFO"], lambda _: token_hex()]
    )
    def test_a_page_that_varies(self, varies):
        """A page that shows its path or the time is the same page."""

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [varies(environ).encode()]

        finding = look(app)["unknown_path"]
        assert finding.status == "error"
        assert "like /__heartbeat__, /__lbheartbeat__: " in finding.message.replace(
            "/__version__, ", ""
        )

    def test_skip(self):
        """The step can be skipped for a site that answers all paths on purpose."""
        page = ("200 OK", "text/html", b"<h1>Hello</h1>")
        findings = look(Answers(other=page), skip=["unknown_path"])
        assert findings["unknown_path"].status == "skipped"
        assert red(findings) == []


class TestEndpoints:
    """Each endpoint must be answered with 200."""

    @pytest.mark.parametrize(
        ("name", "answer", "reason"),
        [
            ("version", ("404 Not Found", "text/html", b""), "answers 404 Not Found"),
            ("version", ("500 Oops", "application/json", b'{"error": "is no JSON"}'), "is no JSON"),
            ("version", ("200 OK", "application/json", b"[]"), "not with a JSON object"),
            (
                "version",
                ("200 OK", "application/json", b'{"version": ""}'),
                "no source and no commit",
            ),
            ("version", ("302 Found", "text/html", b""), "answers 302 Found to /login"),
            ("version", ("401 Unauthorized", "text/html", b""), "answers 401"),
            ("heartbeat", ("404 Not Found", "text/html", b""), "answers 404"),
            ("heartbeat", ("503 Oops", "text/plain", b""), "answers 503"),
            ("lbheartbeat", ("204 No Content", "text/plain", b""), "answers 204"),
            ("lbheartbeat", ("500 Oops", "text/plain", b""), "answers 500"),
        ],
    )
    def test_each_fault(self, name, answer, reason):
        """One step fails, with a reason and a remedy."""
        findings = look(Answers(**{name: answer}))
        assert red(findings) == [f"endpoint_{name}"]
        assert reason in findings[f"endpoint_{name}"].message
        assert findings[f"endpoint_{name}"].remedy

    def test_a_missing_version_file(self, tmp_path):
        """The remedy is the one that the middleware's own answer has."""
        findings = look(DockerflowMiddleware(hello_or_404, version_path=tmp_path))
        version = findings["endpoint_version"]
        assert "version.json not found: write it at build time by" in version.message
        assert version.remedy.startswith("Fix the reported problem")

    def test_a_failing_heartbeat(self):
        """The message has the checks and their messages, without passwords."""
        app = DockerflowMiddleware(hello_or_404)
        app.check(lambda: checks.Error("down at redis://:s3cr3t@cache"), name="cache")
        findings = look(app)
        message = findings["endpoint_heartbeat"].message
        assert message.startswith("/__heartbeat__ answers 500 Internal Server Error: ")
        assert '"messages": {"cache": "down at redis://:***@cache"}' in message

    def test_a_failing_heartbeat_with_200(self):
        """An error in the JSON of a 200 is a warning."""
        bad = ("200 OK", "application/json", b'{"status": "error", "checks": {"db": "error"}}')
        failing = look(Answers(heartbeat=bad))["endpoint_heartbeat"]
        assert failing.status == "warning"
        assert 'answers 200, though its status is error: {"db": "error"}' in failing.message

    def test_a_path_in_the_url(self):
        """The endpoints are requested below the path; the remedy mentions it."""
        with wsgiref_server(Answers()) as port:
            url = f"http://127.0.0.1:{port}/__heartbeat__"
            (instance,) = look_at(url)
            (below,) = look_at(f"http://127.0.0.1:{port}/api")
        finding = instance["endpoint_version"]
        assert finding.message == "/__heartbeat__/__version__ answers 404 Not Found to /login"
        finding = below["endpoint_version"]
        assert finding.remedy.startswith("Correct host, port and path of --url, or wrap")


class TestConnection:
    """A failed connection fails once; the other steps are skipped."""

    def test_another_protocol(self):
        """The step `protocol` fails for another protocol than HTTP."""
        with listener(talk_nonsense) as port:
            (instance,) = look_at(f"http://127.0.0.1:{port}")
        statuses = {name: result.status for name, result in instance.items()}
        fine = {"dns": "ok", "tcp": "ok", "protocol": "error"}
        assert statuses == dict.fromkeys(NAMES, "skipped") | fine

    def test_a_closed_port(self):
        """The step `tcp` fails."""
        (instance,) = look_at(f"http://127.0.0.1:{free_port()}")
        statuses = {name: result.status for name, result in instance.items()}
        assert statuses == dict.fromkeys(NAMES, "skipped") | {"dns": "ok", "tcp": "error"}

    def test_an_unknown_name(self):
        """The step `dns` fails."""
        (instance,) = look_at("http://nowhere.invalid")
        assert instance["dns"].status == "error"
        assert "cannot be resolved" in instance["dns"].message

    def test_https_without_tls(self):
        """The step `tls` fails for https:// on a port of plain HTTP."""
        with wsgiref_server(hello) as port:
            (instance,) = look_at(f"https://127.0.0.1:{port}", timeout_s=3)
        assert instance["tls"].status == "error"
        assert "the TLS handshake failed: " in instance["tls"].message

    def test_http_with_tls(self, tls_port):
        """The remedy for http:// on a port with TLS is to correct the scheme."""
        (instance,) = look_at(f"http://127.0.0.1:{tls_port}")
        (finding,) = [result for result in instance.values() if not result.ok]
        assert "no HTTP answer: " in finding.message
        assert finding.remedy.startswith("Correct scheme, host and port of --url")

    @pytest.mark.parametrize(
        ("serve", "reason"),
        [
            (drip, "/__lbheartbeat__: no answer within 0.5 s"),
            (talk_nonsense, "no HTTP answer: BadStatusLine: +PONG"),
        ],
    )
    def test_a_service_that_never_ends(self, serve, reason):
        """An answer that never ends is given up after the limit."""
        with listener(serve) as port:
            (instance,) = look_at(f"http://127.0.0.1:{port}", timeout_s=0.5)
        finding = instance["protocol"]
        assert finding.status == "error"
        assert reason in finding.message


class TestOutput:
    """The report of one service, or of several, is safe and readable."""

    def test_control_characters(self, doctor):
        """Control characters are replaced, and long texts are shortened."""
        said = json.dumps({"error": "\x1b]0;owned\x07" + "long " * 1000}).encode()
        with wsgiref_server(Answers(version=("500 Oops", "application/json", said))) as port:
            done = doctor("--url", f"http://127.0.0.1:{port}")
        assert "\x1b" not in done.out
        assert "?]0;owned?" in done.out
        assert len(done.out) < 3000

    def test_agreement(self, doctor):
        """Different versions are a warning."""
        with contextlib.ExitStack() as stack:
            one, two, other = (serve_version(stack, commit=commit) for commit in ("a", "a", "b"))
            same = doctor("--url", one, "--url", two, "--json")
            pair = doctor("--url", one, "--url", other, "--json")
            left_out = doctor("--url", one, "--url", other, "--json", "--skip", "agreement")
        assert same["agreement"]["status"] == "ok"
        assert pair["agreement"]["status"] == "warning"
        assert pair["agreement"]["message"] == "the instances have different versions"
        assert left_out["agreement"]["status"] == "skipped"

    def test_a_table(self, doctor):
        """Each instance has a row with version, commit, status and latency; reasons are below."""
        with contextlib.ExitStack() as stack:
            one, two = serve_version(stack), serve_version(stack, version="2.0")
            gone = f"http://127.0.0.1:{free_port()}"
            urls = [part for url in (one, two, gone) for part in ("--url", url)]
            shown, data = doctor(*urls), doctor(*urls, "--json")
        assert shown.code == data.code == 1
        rows = [line.split() for line in shown.out.splitlines()[2:6]]
        assert rows[0] == ["instance", "version", "commit", "status", "latency"]
        assert rows[1][:5] == ["ok", one, "1.0", "abc", "ok"]
        assert rows[1][-1] == "ms"
        assert rows[3] == ["error", gone, "-", "-", "-", "-"]
        assert f"\nerror: tcp of {gone}\n" in shown.out
        failed = [probe for probe in data.report["probes"] if not probe["ok"]]
        assert [(probe["name"], probe["url"]) for probe in failed] == [("tcp", gone)]
        assert data.report["probes"][-1]["name"] == "agreement"
