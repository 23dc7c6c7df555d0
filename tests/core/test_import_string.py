"""``MODULE:NAME`` on a command line: the object that it loads, and the errors."""

from __future__ import annotations

import sys

import pytest

from dockerflow_wsgi.import_string import (
    TargetError,
    import_string,
    parse_import_string,
    require_wsgi,
)

WORKER = """
class Holder:
    registry = 'nested'
    @property
    def fails(self):
        raise RuntimeError('it is not ready')
holder = Holder()
registry = 'plain'
def make(*arguments, **keywords):
    return ('made', *arguments, *keywords.values())
def fails():
    raise RuntimeError('postgresql://ada:s3cr3t@db/acme is down')
def leaves():
    raise SystemExit('no postgresql://ada:s3cr3t@db/acme')
"""
SETTINGS = """
from dockerflow_wsgi import DockerflowMiddleware
DockerflowMiddleware(print, check_timeout=0, heartbeat_ttl=-1)
"""

# A text that cannot be loaded, the reason, and the remedy.
FAILURES = [
    ("acme.nothing:app", "there is no module 'acme.nothing' in {directory}, and", "Correct"),
    ("nothing.at.all:app", "there is no module 'nothing' in {directory}, and none", "Correct"),
    ("acme.worker.py:app", "there is no module 'acme.worker.py'", "not its file: acme.worker"),
    ("acme.worker:registri", "module 'acme.worker' has no 'registri': did you mean 'registry'?",
     "MODULE:NAME"),
    ("acme.worker:x", "the module 'acme.worker' has no 'x'", "MODULE:NAME"),
    ("acme.worker:Holder.y", "Holder has no 'y'", "MODULE:NAME"),
    ("acme.worker:registry()", "importing acme.worker:registry: TypeError: 'str' ", "Fix"),
    ("acme.worker:holder.fails", "acme/worker.py:6: RuntimeError: it is not r", "this line"),
    ("acme.worker:fails()", "acme/worker.py:12: RuntimeError: postgresql://ada:***@", "Fix"),
    ("acme.worker:leaves()", "acme/worker.py:14: SystemExit: no postgresql://ada:***@", "Fix"),
    ("breaks:app", "breaks.py:2: ZeroDivisionError: division by zero", "this line of the app"),
    ("leaves:app", "leaves.py:1: SystemExit: no configuration", "this line of the app"),
    ("lacks:app", "lacks.py:1: No module named 'no_such_package'", "has no_such_package"),
    ("says:app", "says.py:1: ModuleNotFoundError: it says no more", "this line of the app"),
    ("asks:app", "asks.py:3: KeyError: 'NOT_SET'", "Set the environment variable NOT_SET"),
    ("imports_typo:app", "typo.py:1: SyntaxError: invalid syntax (typo.py, line 1)", "this"),
    ("typo:app", "typo.py:1: SyntaxError: invalid syntax (typo.py, line 1)", "this line"),
    ("wrong:app", "wrong.py:3: the configuration is wrong: check_timeout", "each of the"),
    ("wrong:app", "; heartbeat_ttl", "each of the"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Change to a directory with some modules, and forget the modules afterwards."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "worker.py").write_text(WORKER)
    (tmp_path / "breaks.py").write_text("\nraise ZeroDivisionError('division by zero')\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit('no configuration')\n")
    (tmp_path / "lacks.py").write_text("import no_such_package\n")
    (tmp_path / "says.py").write_text("raise ModuleNotFoundError('it says no more')\n")
    (tmp_path / "asks.py").write_text("import os\n\nos.environ['NOT_SET']\n")
    (tmp_path / "imports_typo.py").write_text("import typo\n")
    (tmp_path / "typo.py").write_text("def f(:\n")
    (tmp_path / "wrong.py").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def fail(text):
    """Load an object that cannot be loaded, and return the error."""
    with pytest.raises(TargetError) as caught:
        import_string(parse_import_string(text))
    return caught.value


class TestObjects:
    """A text names an object of a module, or a factory's result."""

    @pytest.mark.parametrize(
        ("text", "loaded"),
        [
            ("acme.worker:registry", "plain"),
            ("acme.worker:Holder.registry", "nested"),
            ("acme.worker:make()", ("made",)),
            ("acme.worker:make(1, 'two', three=[3])", ("made", 1, "two", [3])),
        ],
    )
    def test_an_object_or_a_factory(self, text, loaded):
        """The object may be nested; a factory may have literal arguments."""
        assert import_string(parse_import_string(text)) == loaded

    @pytest.mark.parametrize(
        "text",
        [
            *("", "acme.worker", "acme.worker:", ":registry", "acme/worker.py:app", "1:app"),
            *("a:b c", "a:b(c)", "a:b(*c)", "a:b()()", "a:b[0]", "a.:b"),
            *("a:b({[]: 1})", "a:b(**{'c': 1})", f"a:b({'-' * 100_000}1)"),
        ],
    )
    def test_a_wrong_form(self, text):
        """The error has examples; expressions in a factory's arguments are not evaluated."""
        assert str(fail(text)) == (
            f"{text!r} cannot be read. Write MODULE:NAME, such as acme.wsgi:app or "
            "acme.worker:registry, or acme:create_app()"
        )

    def test_the_current_directory_comes_first(self, directory, monkeypatch):
        """A module of the current directory is preferred to an installed one."""
        elsewhere = directory / "site-packages"
        elsewhere.mkdir()
        (elsewhere / "shadowed.py").write_text("place = 'installed'\n")
        (directory / "shadowed.py").write_text("place = 'here'\n")
        monkeypatch.syspath_prepend(elsewhere)
        assert import_string(parse_import_string("shadowed:place")) == "here"


class TestErrors:
    """An error has the reason, the remedy and the lines of the app."""

    @pytest.mark.parametrize(
        ("text", "reason", "remedy"),
        FAILURES,
    )
    def test_the_reason_and_the_remedy(self, directory, text, reason, remedy):
        """The error has the place, the nearest name and what to do, but no password."""
        error = fail(text)
        assert reason.format(directory=directory) in error.reason
        assert remedy in error.remedy
        assert str(error) == f"{error.reason.removesuffix('.')}. {error.remedy}"

    def test_a_factory_without_brackets(self):
        """The remedy suggests brackets only for a factory without them."""
        for text, is_hinted in (("acme:make", True), ("acme:make()", False)):
            with pytest.raises(TargetError) as caught:
                require_wsgi(lambda: None, parse_import_string(text))
            assert ("if it is a factory" in caught.value.remedy) is is_hinted

    def test_the_lines_of_the_app(self):
        """The error has the lines of the app, the innermost last."""
        (line,) = fail("breaks:app").stack
        assert line == "breaks.py:2 in <module>: raise ZeroDivisionError('division by zero')"

    def test_the_lines_of_an_installed_app(self, directory):
        """The lines of installed packages are used if the app has no others."""
        packages = directory / "lib" / "site-packages"
        packages.mkdir(parents=True)
        (packages / "shop.py").write_text("import breaks\n")
        sys.path.insert(0, str(packages))
        assert fail("shop:app").reason.startswith("breaks.py:2: ZeroDivisionError")
        (packages / "breaks_too.py").write_text("1 / 0\n")
        assert fail("breaks_too:app").reason.startswith("lib/site-packages/breaks_too.py:1: Zero")
