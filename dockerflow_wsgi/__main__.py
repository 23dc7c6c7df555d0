"""The command line: ``python -m dockerflow_wsgi``, also installed as ``dockerflow-wsgi``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; by default those of the process.

    Returns:
        The exit code: 0 if all is well, 2 for misuse.
    """
    parser = argparse.ArgumentParser(
        prog="dockerflow-wsgi",
        description="Makes any WSGI application comply with Mozilla's Dockerflow.",
        epilog="Wrap the app in Python: wrapped_app = DockerflowMiddleware(app)",
    )
    shown = f"dockerflow-wsgi {version('dockerflow-wsgi')}"
    parser.add_argument("--version", action="version", version=shown)
    parser.parse_args(arguments)
    parser.print_help()
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
