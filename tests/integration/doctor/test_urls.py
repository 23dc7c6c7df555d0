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
    """A service that answers each path as it was told, and others with 404."""

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
    """Return the names of what failed."""
    return [name for name, finding in findings.items() if finding.status == "error"]


def test_a_service_that_fulfils_everything_is_green():
    """In whatever language it is written."""
    findings = look(Answers())
    assert list(findings) == NAMES
    assert {finding.status for finding in findings.values()} == {"ok"}


def test_the_middleware_is_green(version_directory):
    """Behind a real server; HEAD and 405 are told."""
    findings = look(DockerflowMiddleware(hello_or_404, version_path=version_directory))
    assert red(findings) == []
    assert "HEAD is answered 200, TRACE is answered 405" in findings["methods"].message


def hello_or_404(environ, start_response):
    """Be an app with one page."""
    if environ["PATH_INFO"] == "/":
        return hello(environ, start_response)
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b""]


def test_a_service_that_answers_200_to_any_path_is_red():
    """Its 200s prove nothing, though they look well."""
    ok = ("200 OK", "application/json", json.dumps({**VERSION, "status": "ok", "checks": {}}))
    ok = (*ok[:2], ok[2].encode())
    findings = look(Answers(other=ok, version=ok, heartbeat=ok, lbheartbeat=ok))
    assert red(findings) == ["unknown_path"]
    assert "404" in findings["unknown_path"].remedy


def test_the_pages_of_a_site_are_no_endpoints():
    """HTML is no version, and no heartbeat."""
    page = ("200 OK", "text/html", b"<h1>Hello</h1>")
    findings = look(Answers(other=page, version=page, heartbeat=page, lbheartbeat=page))
    assert red(findings) == ["endpoint_version", "unknown_path"]


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("version", ("404 Not Found", "text/html", b""), "answers 404 Not Found"),
        ("version", ("500 Oops", "application/json", b'{"error": "is no JSON"}'), "is no JSON"),
        ("version", ("200 OK", "application/json", b"[]"), "not with a JSON object"),
        ("version", ("200 OK", "application/json", b'{"version": ""}'), "no source and no commit"),
        ("version", ("302 Found", "text/html", b""), "answers 302 Found to /login"),
        ("version", ("401 Unauthorized", "text/html", b""), "answers 401"),
        ("heartbeat", ("404 Not Found", "text/html", b""), "answers 404"),
        ("heartbeat", ("503 Oops", "text/plain", b""), "answers 503"),
        ("lbheartbeat", ("204 No Content", "text/plain", b""), "answers 204"),
        ("lbheartbeat", ("500 Oops", "text/plain", b""), "answers 500"),
    ],
)
def test_each_fault_of_an_endpoint_has_its_reason(name, answer, reason):
    """And its remedy, and nothing else is red."""
    findings = look(Answers(**{name: answer}))
    assert red(findings) == [f"endpoint_{name}"]
    assert reason in findings[f"endpoint_{name}"].message
    assert findings[f"endpoint_{name}"].remedy


def test_a_heartbeat_of_another_form_is_no_failure():
    """Dockerflow prescribes the HTTP status only."""
    text = look(Answers(heartbeat=("200 OK", "text/plain", b"fine")))
    other = look(Answers(heartbeat=("200 OK", "application/json", b'{"database": true}')))
    assert text["endpoint_heartbeat"].status == "ok"
    assert other["endpoint_heartbeat"].status == "ok"


def test_a_failing_heartbeat_tells_its_checks():
    """By name, with what they say; passwords are masked."""
    app = DockerflowMiddleware(hello_or_404)
    app.check(lambda: checks.Error("down at redis://:s3cr3t@cache"), name="cache")
    findings = look(app)
    message = findings["endpoint_heartbeat"].message
    assert message.startswith("/__heartbeat__ answers 500 Internal Server Error: ")
    assert '"messages": {"cache": "down at redis://:***@cache"}' in message


def test_a_heartbeat_that_fails_with_200_is_a_warning():
    """Probers only look at the HTTP status."""
    bad = ("200 OK", "application/json", b'{"status": "error", "checks": {"db": "error"}}')
    failing = look(Answers(heartbeat=bad))["endpoint_heartbeat"]
    assert failing.status == "warning"
    assert 'answers 200, though its status is error: {"db": "error"}' in failing.message


def test_a_page_for_any_path_is_told_from_the_endpoints(version_directory):
    """A wrapped app may answer 200 to all else: the endpoints are not answered alike."""
    finding = look(DockerflowMiddleware(hello, version_path=version_directory))["unknown_path"]
    assert (finding.status, "unlike the endpoints" in finding.message) == ("ok", True)


@pytest.mark.parametrize("varies", [lambda environ: environ["PATH_INFO"], lambda _: token_hex()])
def test_a_page_that_varies_is_not_told_from_the_endpoints(varies):
    """By its path, or by the time: that makes no endpoint of it."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [varies(environ).encode()]

    finding = look(app)["unknown_path"]
    assert finding.status == "error"
    assert "like /__heartbeat__, /__lbheartbeat__: " in finding.message.replace(
        "/__version__, ", ""
    )


def test_a_path_in_the_url_is_shown_and_doubted():
    """The endpoints are asked below it, which is seldom meant."""
    with wsgiref_server(Answers()) as port:
        url = f"http://127.0.0.1:{port}/__heartbeat__"
        (instance,) = look_at(url)
        (below,) = look_at(f"http://127.0.0.1:{port}/api")
    finding = instance["endpoint_version"]
    assert finding.message == "/__version__ answers 404 Not Found to /login"
    finding = below["endpoint_version"]
    assert "or correct host, port and path of --url" in finding.remedy


def test_what_is_no_http_is_told_once():
    """By its name; what needs an answer is not red too, and methods never is."""
    with listener(talk_nonsense) as port:
        (instance,) = look_at(f"http://127.0.0.1:{port}")
    statuses = {name: result.status for name, result in instance.items()}
    fine = {"dns": "ok", "tcp": "ok", "protocol": "error"}
    assert statuses == dict.fromkeys(NAMES, "skipped") | fine


def test_a_port_that_nothing_listens_on_is_told_once():
    """What needs the connection is not red too."""
    (instance,) = look_at(f"http://127.0.0.1:{free_port()}")
    statuses = {name: result.status for name, result in instance.items()}
    assert statuses == dict.fromkeys(NAMES, "skipped") | {"dns": "ok", "tcp": "error"}


def test_a_name_that_cannot_be_resolved_is_told():
    """It is no fault of the service."""
    (instance,) = look_at("http://nowhere.invalid")
    assert instance["dns"].status == "error"
    assert "cannot be resolved" in instance["dns"].message


def test_tls_that_is_not_spoken_is_told():
    """https to a port of plain HTTP."""
    with wsgiref_server(hello) as port:
        (instance,) = look_at(f"https://127.0.0.1:{port}", timeout_s=3)
    assert instance["tls"].status == "error"
    assert "the TLS handshake failed: " in instance["tls"].message


def test_http_where_tls_is_spoken_is_told(tls_port):
    """The scheme is what is wrong."""
    (instance,) = look_at(f"http://127.0.0.1:{tls_port}")
    (finding,) = [result for result in instance.values() if not result.ok]
    assert "no HTTP answer: " in finding.message
    assert finding.remedy.startswith("Correct scheme, host and port of --url")


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
    """Answer a byte at a time, for longer than anybody waits."""
    with contextlib.suppress(OSError), connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(500):
            connection.sendall(b"x")
            time.sleep(0.02)


def talk_nonsense(connection):
    """Answer what is no HTTP."""
    with connection:
        connection.recv(1000)
        connection.sendall(b"+PONG\r\n")


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (drip, "/__lbheartbeat__: no answer within 0.5 s"),
        (talk_nonsense, "no HTTP answer: BadStatusLine: +PONG"),
    ],
)
def test_a_service_that_does_not_answer_properly_is_bounded(serve, reason):
    """However it goes on."""
    with listener(serve) as port:
        (instance,) = look_at(f"http://127.0.0.1:{port}", timeout_s=0.5)
    finding = instance["protocol"]
    assert finding.status == "error"
    assert reason in finding.message


def test_control_characters_of_a_service_do_not_reach_the_terminal(doctor):
    """Nor does a page that it gives for an error."""
    said = json.dumps({"error": "\x1b]0;owned\x07" + "long " * 1000}).encode()
    with wsgiref_server(Answers(version=("500 Oops", "application/json", said))) as port:
        done = doctor("--url", f"http://127.0.0.1:{port}")
    assert "\x1b" not in done.out
    assert "?]0;owned?" in done.out
    assert len(done.out) < 3000


def serve_version(stack, **version):
    """Serve a version until the test ends, and return the URL."""
    body = json.dumps({**VERSION, **version}).encode()
    port = stack.enter_context(
        wsgiref_server(Answers(version=("200 OK", "application/json", body)))
    )
    return f"http://127.0.0.1:{port}"


def test_instances_that_disagree_are_flagged(doctor):
    """The minority is flagged; without a majority, all are."""
    with contextlib.ExitStack() as stack:
        one, two, other = (serve_version(stack, commit=commit) for commit in ("a", "a", "b"))
        same = doctor("--url", one, "--url", two, "--json")
        pair = doctor("--url", one, "--url", other, "--json")
        left_out = doctor("--url", one, "--url", other, "--json", "--skip", "agreement")
    assert same["agreement"]["status"] == "ok"
    assert pair["agreement"]["status"] == "warning"
    assert pair["agreement"]["message"] == "the instances have different versions"
    assert left_out["agreement"]["status"] == "skipped"


def test_several_instances_are_one_table(doctor):
    """A row for each, with version, commit, status, latency; reasons below."""
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


def test_a_real_gunicorn_is_looked_at(doctor):
    """Its app answers 200 to any path, but unlike the endpoints."""
    with gunicorn_server("apps:fine", "--threads", "4", "--pythonpath", "tests") as gunicorn:
        done = doctor("--url", f"http://127.0.0.1:{gunicorn.port}/", "--json")
    assert done.code == 1
    assert done.red == ["endpoint_version"]
    assert "unlike the endpoints" in done["unknown_path"]["message"]
    assert done["endpoint_lbheartbeat"]["status"] == "ok"


def test_a_step_can_be_left_out():
    """For a site that answers all paths on purpose."""
    page = ("200 OK", "text/html", b"<h1>Hello</h1>")
    findings = look(Answers(other=page), skip=["unknown_path"])
    assert findings["unknown_path"].status == "skipped"
    assert red(findings) == []
