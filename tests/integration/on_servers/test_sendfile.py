"""Servers that send files with ``sendfile`` still do so with the middleware."""

from __future__ import annotations

import re

from on_servers.running import running
from system import program


def sent_by_the_kernel(trace):
    """Return how many bytes ``sendfile`` has sent."""
    return sum(int(count) for count in re.findall(r"sendfile\(.*\) = (\d+)", trace.read_text()))


def test_sendfile(kind, tmp_path):
    """Each byte of a file is sent by ``sendfile(2)``, with and without the middleware."""
    trace = tmp_path / "trace"
    strace = program("strace", "strace")
    options = ("-f", "--seccomp-bpf", "-qq", "-e", "trace=sendfile", "-o", str(trace))
    with running(kind, tracer=(strace, *options)) as server:
        for bare in (True, False):
            before = sent_by_the_kernel(trace)
            _rid, response = server.ask("GET", "/file", bare=bare)
            assert response.body == server.file
            server.ask("GET", "/")
            assert sent_by_the_kernel(trace) - before == len(server.file)
