"""UUIDs are random, right and never given out twice."""

from __future__ import annotations

import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor

from dockerflow_wsgi import uuids
from dockerflow_wsgi.uuids import _COUNT, new_uuid

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_each_is_a_uuid_of_version_4():
    """32 hexadecimal digits with hyphens, different each time, over several batches."""
    made = {new_uuid() for _ in range(5 * _COUNT)}
    assert len(made) == 5 * _COUNT
    assert all(UUID4.fullmatch(one) for one in made)
    assert {uuid.UUID(one).version for one in made} == {4}
    assert {uuid.UUID(one).variant for one in made} == {uuid.RFC_4122}


def test_every_digit_that_may_be_random_is():
    """In a thousand of them each place has shown each of its digits."""
    made = [new_uuid() for _ in range(1000)]
    shown = ["".join(sorted(set(digits))) for digits in zip(*made, strict=True)]
    expected = ["0123456789abcdef"] * 36
    for place, digits in {8: "-", 13: "-", 14: "4", 18: "-", 19: "89ab", 23: "-"}.items():
        expected[place] = digits
    assert shown == expected


def test_threads_never_get_the_same():
    """Though they take from one store."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_uuid(), range(5_000)))
    assert len(set(made)) == len(made)


def test_parent_and_child_never_get_the_same():
    """A fork copies memory, and with it whatever had been made in advance."""
    new_uuid()
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.write(sender, " ".join(new_uuid() for _ in range(_COUNT)).encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as pipe:
        made_by_child = pipe.read().decode().split()
    os.waitpid(child, 0)
    made = [new_uuid() for _ in range(_COUNT)]
    assert len(made_by_child) == _COUNT
    assert not set(made) & set(made_by_child)


def test_where_forks_are_not_noticed_none_is_made_in_advance(monkeypatch):
    """A child would give out its parent's again."""
    monkeypatch.setattr(uuids, "page", None)
    monkeypatch.setattr(uuids, "_made", [])
    made = {new_uuid() for _ in range(10)}
    assert len(made) == 10
    assert all(UUID4.fullmatch(one) for one in made)
    assert uuids._made == []
