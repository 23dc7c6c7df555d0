"""nginx generates the request IDs of an app behind it, with the example's configuration."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from fronts import Proxy, instance
from programs import running
from servers import EXAMPLES
from system import program
from waiting import wait_until

# Like the nginx.conf of a distribution, with all paths in the test's directory.
AROUND = """
daemon off;
pid pid;
events {{}}
http {{
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include {example};
}}
"""


@contextlib.contextmanager
def nginx(directory, app):
    """Run nginx with the example and the test's addresses; yield the proxy and its log."""
    executable = program("nginx", "nginx-light")
    front, log = directory / "front", directory / "access.log"
    example = (EXAMPLES / "nginx" / "app.conf").read_text()
    for given, changed in (
        ("listen 8080;", f"listen unix:{front};"),
        ("server 127.0.0.1:8000;", f"server {app.address};"),
        ("access_log /var/log/nginx/app.log ", f"access_log {log} "),
    ):
        assert example.count(given) == 1
        example = example.replace(given, changed)
    (directory / "app.conf").write_text(example)
    (directory / "nginx.conf").write_text(AROUND.format(example=directory / "app.conf"))
    command = [executable, "-e", "stderr", "-p", directory, "-c", directory / "nginx.conf"]
    with running(command, cwd=directory):
        proxy = Proxy(front)
        wait_until(proxy.listens)
        yield proxy, log


@pytest.mark.parametrize("headers", [{}, {"X-Request-ID": "forged"}], ids=["none", "forged"])
def test_the_request_id_of_nginx_is_everywhere(directory, headers):
    """The app, the response, the summary and nginx's log have nginx's ID."""
    with instance("app1", directory) as app1, nginx(directory, app1) as (proxy, log):
        status, response_headers, body = proxy.ask("/", headers)
        wait_until(lambda: log.read_text().endswith("\n"))
        wait_until(app1.summaries)
        (line,) = log.read_text().splitlines()
        (summary,) = app1.summaries()
    request_id = line.split()[-1]
    assert status == 200
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert json.loads(body)["id"] == request_id
    assert response_headers.get_all("X-Request-ID") == [request_id]
    assert summary["Fields"]["rid"] == request_id


def test_an_endpoint_answers_through_nginx(directory):
    """The endpoints answer through nginx, with nginx's request ID."""
    with instance("app1", directory) as app1, nginx(directory, app1) as (proxy, log):
        status, response_headers, body = proxy.ask("/__lbheartbeat__")
        wait_until(lambda: log.read_text().endswith("\n"))
        (line,) = log.read_text().splitlines()
    assert (status, body) == (200, b"")
    assert response_headers.get_all("X-Request-ID") == line.split()[-1:]
