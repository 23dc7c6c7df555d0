"""The package's modules import each other in one direction."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import dockerflow_wsgi

PACKAGE = Path(dockerflow_wsgi.__file__).parent


def modules():
    """Return the path of each module by its name; an ``__init__.py`` has the folder's name."""
    named = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported_by(path, package, known):
    """Return the modules that a module imports, also in functions and for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = resolve_name("." * node.level + (node.module or ""), package)
            inner = {f"{source}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {source}
    return found


def test_there_is_no_circle():
    """No module imports itself through others."""
    named = modules()
    graph = {}
    for name, path in named.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = imported_by(path, package, set(named))
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(named)
