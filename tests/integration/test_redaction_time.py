"""Redaction takes linear time."""

from __future__ import annotations

import random
import time

from dockerflow_wsgi.redaction import redact

# Each text starts a pattern, or makes a part of one repeat.
FRAGMENTS = [
    "\nLINE 1: ",
    "Key (",
    "Key (a)=(",
    "Key (a)=(b) already",
    "Failing row contains (",
    "Duplicate entry 'a",
    "-u a:",
    "Invalid port: '",
    "URL a",
    "pwd:{,",
    "password",
    "password='",
    'password="',
    "password: a ",
    "password: a",
    "password=['a'",
    "password', 'a",
    "password\n input_value",
    'password name=\\"',
    "_pass",
    "secret-a.",
    "secretAAAAAAAA",
    "secret_key_",
    "token",
    'name="password" value',
    "a://b:",
    "a://b:c@d",
    "://",
    "://b:",
    "://a:@sha1",
    '://a:"@sha1',
    "//",
    ":/",
    "@",
    "--password ",
    "-",
    "mysql ",
    "mysql -",
    "curl ",
    "login a ",
    "redis-cli -",
    "<password",
    "<password>",
    "<",
    "[SQL: ",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "host ",
    "connecting to a",
    'Authorization: ="',
    "cookie: a",
    "Cookie: a=",
    "<Cookie ",
    "bearer a",
    "basic aA",
    "identified with ",
    '"auth" "a',
    "auth=(a",
    "eyJ",
    "eyJ.",
    "$1$",
    "xoxb-",
    "sig=aaaaaaaa",
    "?key=a",
    "?x-amz-credential=",
    "%2F%2F",
    "%22",
    "%3D",
    "\\",
    '\\"',
    "'",
    "=",
    " ",
    "\n",
    "a",
    "A",
    "\u00e9",
    "\x00",
    "with args beginning with: ",
    "Port could not be cast to integer value as x",
]


def test_time_is_linear():
    """The time is proportional to the length of the text, for every repeated part.

    Eight times the text may take 24 times as long; with quadratic time it would be 64 times.
    """
    generator = random.Random(15)
    pairs = ["".join(generator.sample(FRAGMENTS, 2)) for _ in range(30)]
    for fragment in [*FRAGMENTS, *pairs]:
        for attempt in range(4):  # another process may disturb a measurement
            short, long = (_process_time_s(fragment, size) for size in (2_000, 16_000))
            if long < 24 * short + 0.01:
                break
            assert attempt < 3, f"{fragment!r}: {short:.4f} s, {long:.4f} s"


def _process_time_s(fragment: str, size: int) -> float:
    given = (fragment * size)[:size]
    started_s = time.process_time()
    redact(given)
    return time.process_time() - started_s
