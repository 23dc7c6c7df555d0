"""A file that the server would send by the kernel is still sent so."""

from __future__ import annotations

import re

from on_servers.running import running
from system import program


def sent_by_the_kernel(trace):
    """Return how many bytes ``sendfile`` has sent."""
    return sum(int(count) for count in re.findall(r"sendfile\(.*\) = (\d+)", trace.read_text()))


def test_sendfile(kind, tmp_path):
    """Each byte of a file goes by ``sendfile(2)``, wrapped as well as bare."""
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
