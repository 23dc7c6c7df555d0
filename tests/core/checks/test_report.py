"""Reports as JSON and as an HTML page."""

from __future__ import annotations

import re
import socket

import pytest

from dockerflow_wsgi import checks
from dockerflow_wsgi.checks.report import CheckResult, HeartbeatReport, format_duration

REPORT = HeartbeatReport(
    (
        CheckResult("fine", (), 0.0004),
        CheckResult("disk", (checks.Warning("<b>full</b>", hint="clean up", id="a.W1"),), 0.025),
        CheckResult("db", (checks.Error("gone", id="a.E1"), checks.Error("lost", id="a.E1")), 61),
        CheckResult("also_fine", (), 1.5),
    ),
    failed_level=30,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.00042, "0.4 ms"),
        (0.0099, "9.9 ms"),
        (0.025, "25.0 ms"),
        (1, "1.0 s"),
        (1.54, "1.5 s"),
        (61, "0:01:01"),
        (3599.9, "1:00:00"),
        (7530, "2:05:30"),
    ],
)
def test_durations_have_human_units(seconds, text):
    """A duration is in milliseconds, in seconds, or from a minute on as ``h:mm:ss``."""
    assert format_duration(seconds) == text


def test_the_page_shows_the_facts():
    """The page has the status, the HTTP status, the time in UTC, the host and the version."""
    page = REPORT.to_html("500 Internal Server Error", version="1.2 <3>")
    assert "<title>Heartbeat: error</title>" in page
    assert "500 Internal Server Error" in page
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page)
    assert socket.gethostname() in page
    assert "1.2 &lt;3&gt;" in page


def test_failed_checks_come_first():
    """Checks are sorted by level, and otherwise keep the order of registration."""
    page = REPORT.to_html("500 Internal Server Error")
    assert re.findall("</span> (\\w+) <small>", page) == ["db", "disk", "fine", "also_fine"]


def test_the_page_shows_messages_hints_and_durations():
    """Everything that a check reports is on the page, escaped."""
    page = REPORT.to_html("500 Internal Server Error")
    for text in ("&lt;b&gt;full", "clean up", "a.E1 #2", "0.4 ms", "25.0 ms", "0:01:01"):
        assert text in page
    assert "Version" not in page


def test_without_details_the_page_has_names_and_statuses():
    """Without details, the page shows neither messages nor the host nor durations."""
    page = REPORT.to_html("599 Heartbeat Failed", with_details=False)
    assert "599" in page
    assert "also_fine" in page
    for text in ("full", "clean up", "gone", "ms<", socket.gethostname()):
        assert text not in page
