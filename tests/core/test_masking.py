"""Credentials in text."""

from __future__ import annotations

import time

import pytest

from dockerflow_wsgi.masking import describe, mask_credentials


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://ada:s3cr3t@db:5432/x", "postgresql://ada:***@db:5432/x"),
        ("redis://:s3cr3t@cache/0", "redis://:***@cache/0"),
        ("postgresql+psycopg://a:s3/c@r3t@db/x", "postgresql+psycopg://a:***@db/x"),
        ("(amqp://a:s3cr3t@mq) failed", "(amqp://a:***@mq) failed"),
        ("no URL: 'postgresql:/a:s3cr3t@db'", "no URL: 'postgresql:***@db'"),
        ("redis://:s3://cr3t@h", "redis://:***@h"),
        ("redis://:s3cr3t@a,redis://:0ther@b", "redis://:***@b"),
        (
            "x mysql://a:s3cr3t@one/, y redis://:0ther@two/",
            "x mysql://a:***@one/, y redis://:***@two/",
        ),
        ("host=db password=s3cr3t dbname=x", "host=db password=*** dbname=x"),
        ("password='s3 cr3t' user=a", "password=*** user=a"),
        ("Server=db;PWD=s3cr3t;UID=a", "Server=db;PWD=***;UID=a"),
        ("{'password': 's3cr3t', 'host': 'db'}", "{'password': ***, 'host': 'db'}"),
        ('{"db_password": "s3cr3t"}', '{"db_password": ***}'),
        ("?password=s3cr3t&x=1", "?password=***&x=1"),
        ("password=b's3cr3t', x", "password=***, x"),
        ("PWD={s3;cr3t};UID=a", "PWD=***;UID=a"),
        ("odbc_connect=DB%3Dx%3BPWD%3Ds3cr3t%3BUID", "odbc_connect=DB%3Dx%3BPWD%3D***%3BUID"),
        ('password="s3cr3t', "password=***"),
        (r"password='s3\'cr3t x'", "password=***"),
        ("not: postgresql://ada:s3 cr3t@db/x", "not: postgresql://ada:***@db/x"),
        ("?token=s3cr3t&x=1", "?token=***&x=1"),
        ("http://h/?api_key=s3cr3t", "http://h/?api_key=***"),
        ("create_engine('postgresql://ada:s3cr3t/x')", "create_engine('postgresql://ada:***/x')"),
        (
            "Port could not be cast to integer value as 's3cr3t'",
            "Port could not be cast to integer value as ***",
        ),
        (
            'ValueError: invalid literal for int() with base 10: "s3\'cr3t"',
            "ValueError: invalid literal for int() with base 10: ***",
        ),
        ("failed to resolve host 's3cr3t@db': x", "failed to resolve host '***@db': x"),
        (
            'could not translate host name "s3 cr@t@db" to',
            'could not translate host name "***@db" to',
        ),
        ("Can't connect to server on 's3cr3t@db' (x)", "Can't connect to server on '***@db' (x)"),
        (
            "unknown command `AUTH`, with args beginning with: `a`, `s3cr3t`",
            "unknown command `AUTH`, with args beginning with: ***",
        ),
    ],
)
def test_passwords_are_masked(text, masked):
    """In URLs, connection strings, query strings and the repr of arguments."""
    assert mask_credentials(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "connection to server at 127.0.0.1, port 5432 failed",
        'password authentication failed for user "ada"',
        "http://x.test:8000/a",
        "see https://x.test/a?b=c:d",
        "ada@x.test: no such user",
        "from: ada@x.test",
        "ssh://git@x.test/repo",
        "http://x.test:8000 says no to ada@x.test",
        "http://[::1]:8000/a",
        "f'redis://{host}:{port}/0'",
        "unexpected token: )",
        "",
    ],
)
def test_other_text_stays(text):
    """Only what can be a password is hidden."""
    assert "s3cr3t" not in text
    assert mask_credentials(text) == text


def test_no_text_makes_masking_slow():
    """An exception's text may be the work of an attacker."""
    started = time.monotonic()
    mask_credentials("a://b:" * 50_000)
    mask_credentials("a://b:c@d" * 50_000)
    mask_credentials("password" * 50_000)
    mask_credentials("token" * 50_000)
    mask_credentials("://b:" * 50_000 + "'")
    mask_credentials("://" + "b:" * 50_000)
    assert time.monotonic() - started < 10


def test_an_exception_is_described_by_its_text_or_its_name():
    """There is always something to read."""
    assert describe(ValueError("redis://:pw@h")) == "redis://:***@h"
    assert describe(ValueError()) == "ValueError"
