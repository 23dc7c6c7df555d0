"""The commands in an example's first lines install everything that it needs."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, files, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PROGRAMS = {"celery", "gunicorn", "flask", "rq", "alembic"}


def commands(text):
    """Return the commands in the docstring of an example, each as its words."""
    lines = re.findall("^    (.+)$", ast.get_docstring(ast.parse(text)), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def add_requirements(requirement, seen):
    """Add a requirement and its dependencies, with the extras, to a set."""
    wanted = {"", *requirement.extras}
    key = canonicalize_name(requirement.name), *sorted(wanted)
    if key in seen:
        return
    seen.add(key)
    try:
        needed = requires(requirement.name) or []
    except PackageNotFoundError:
        return
    for further in map(Requirement, needed):
        marker = further.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted):
            add_requirements(further, seen)


def imported_by(text):
    """Return the third-party packages that an example imports."""
    names = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"dockerflow_wsgi"}


def modules_of(name):
    """Return the top-level modules and packages of a distribution, if it is installed."""
    try:
        paths = files(name) or []
    except PackageNotFoundError:
        return set()
    return {path.parts[0].removesuffix(".py") for path in paths}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_installed_packages_suffice(example):
    """The first command installs all packages and programs that an example uses."""
    text = example.read_text(encoding="utf-8")
    install, *others = commands(text)
    assert install[:2] == ["pip", "install"]
    seen = set()
    for word in install[2:]:
        add_requirements(Requirement(re.sub(r"^\.", "dockerflow-wsgi", word)), seen)
    installed = {key[0] for key in seen}
    assert "dockerflow-wsgi" in installed
    needed = imported_by(text) | PROGRAMS & {words[0] for words in others}
    assert needed <= set().union(*map(modules_of, installed))
