"""Services written for python-dockerflow pass their own tests after a change of the import root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = Path(__file__).parent / "services"
TESTS = {
    "todo_service_tests.py": 23,
    "scanner_tests.py": 5,
    "release_tests.py": 4,
    "dashboard_tests.py": 4,
}


@pytest.mark.parametrize(
    ("root", "names"),
    [
        *(("dockerflow", [name]) for name in TESTS),  # its checks are global
        ("dockerflow_wsgi", list(TESTS)),
    ],
)
def test_services_pass_their_tests_with_both_packages(root, names, tmp_path, redis_url):
    """The tests pass with both packages; only the import root differs."""
    pytest.importorskip("dockerflow")
    directory = shutil.copytree(SERVICES, tmp_path / "service")
    for path in directory.glob("*.py"):
        moved = path.read_text()
        for module in ("flask", "logging"):
            moved = moved.replace(f"dockerflow.{module}", f"{root}.{module}")
        path.write_text(moved)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", *names],
        cwd=directory,
        env={**os.environ, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(TESTS[name] for name in names)} passed" in done.stdout
