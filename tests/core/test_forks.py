"""A process knows whether it was forked."""

from __future__ import annotations

import os

import pytest

from dockerflow_wsgi import forks


def ask_child():
    """Fork; return the child's ID, and what it takes for it."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.write(sender, str(forks.getpid()).encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, encoding="ascii") as pipe:
        answer = int(pipe.read())
    os.waitpid(child, 0)
    return child, answer


def test_the_id_of_a_process_is_that_of_the_system():
    """The first time, and when it is remembered."""
    assert [forks.getpid(), forks.getpid()] == [os.getpid()] * 2


def test_a_child_knows_its_own_id():
    """Though its parent's was remembered; and the parent's stays."""
    parent = forks.getpid()
    child, answer = ask_child()
    assert answer == child != parent
    assert forks.getpid() == parent


@pytest.mark.parametrize(
    ("name", "value"),
    [("sys.platform", "darwin"), ("dockerflow_wsgi.forks._MADV_WIPEONFORK", 9999)],
)
def test_where_forks_are_not_noticed_nothing_is_remembered(monkeypatch, name, value):
    """On other systems, and before Linux 4.14."""
    monkeypatch.setattr(name, value)
    monkeypatch.setattr(forks, "page", forks._page_wiped_by_forks())
    assert forks.page is None
    parent = forks.getpid()
    child, answer = ask_child()
    assert answer == child != parent
