"""The command ``version``: write the version object (``version.json``) of a build.

Each of its values is the first one found: the option, the variables of the CI system, git.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .version import FILE_NAME, KEYS

if TYPE_CHECKING:
    import argparse

_GITHUB = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}"
_CI_SYSTEMS = {  # the variable that each system always sets, and those that have the values
    "CIRCLECI": {
        "source": "{CIRCLE_REPOSITORY_URL}",
        "version": "{CIRCLE_TAG}",
        "commit": "{CIRCLE_SHA1}",
        "build": "{CIRCLE_BUILD_URL}",
    },
    "GITHUB_ACTIONS": {
        "source": _GITHUB,
        "version": "{GITHUB_REF_NAME}",  # of a branch, too: see _from_ci()
        "commit": "{GITHUB_SHA}",
        "build": _GITHUB + "/actions/runs/{GITHUB_RUN_ID}",
    },
    "GITLAB_CI": {
        "source": "{CI_PROJECT_URL}",
        "version": "{CI_COMMIT_TAG}",
        "commit": "{CI_COMMIT_SHA}",
        "build": "{CI_JOB_URL}",
    },
    "JENKINS_URL": {
        "source": "{GIT_URL}",
        "version": "{TAG_NAME}",
        "commit": "{GIT_COMMIT}",
        "build": "{BUILD_URL}",
    },
    "TASKCLUSTER_ROOT_URL": {"build": "{TASKCLUSTER_ROOT_URL}/tasks/{TASK_ID}/runs/{RUN_ID}"},
}
_GIT_COMMANDS = {
    "source": ("ls-remote", "--get-url"),  # of the branch's remote, origin, or the only one
    "version": ("describe", "--tags", "--exact-match"),
    "commit": ("rev-parse", "HEAD"),
}
_GIT_TIMEOUT_S = 10
_CREDENTIALS = re.compile(r"(?i)^(https?://)[^/?#]*@|^(\w[\w+.-]*://[^/?#:@]*):[^/?#]*(?=@)")

# $NAME, ${NAME}, $(NAME), ${{ expression }}, {{ expression }}; and %NAME% as the whole value,
# because URLs may have percent signs.
_find_placeholder = re.compile(
    r"\$?\{\{\s*(.*?)\s*\}\}|\$(?:([A-Za-z_]\w*)|\{(\w+)[^}]*\}|\(([\w.]+)\))|^%(\w+)%$"
).search


def add_command(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "version",
        help=f"write the {FILE_NAME} of a build",
        description="Writes a Dockerflow version object. A value without an option comes from the "
        "environment of CircleCI, GitHub Actions, GitLab CI or Jenkins (of Taskcluster the build), "
        "else from git.",
    )
    parser.add_argument("--output", metavar="FILE", help="the file (default: standard output)")
    parser.add_argument("--source", metavar="URL", help="the URL of the repository")
    parser.add_argument("--version", metavar="V", help="the version, which may be blank")
    parser.add_argument("--commit", metavar="SHA", help="the commit")
    parser.add_argument("--build", metavar="URL", help="the URL of the build")
    parser.set_defaults(run=run_command)


def run_command(arguments: argparse.Namespace) -> int:
    """Write the version object, and return the exit code: 1 if a value is missing or wrong."""
    options = {key: value for key in KEYS if (value := getattr(arguments, key)) is not None}
    version, problems = make_version(options, os.environ)
    if not problems:
        text = json.dumps(version) + "\n"
        try:
            _write(arguments.output, text)
        except OSError as error:
            problems = [f"cannot write {arguments.output}: {error.strerror}"]
    for problem in problems:
        sys.stderr.write(f"dockerflow-wsgi version: {problem}\n")
    return 1 if problems else 0


def make_version(
    options: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Make a version object.

    Args:
        options: The values of the options; only the version may be blank.
        environment: The environment variables.

    Returns:
        The object with all of its keys, and one text per problem: a value that is missing, except
        for the version, and for the build outside of a CI system; or an unresolved placeholder.
    """
    system = next((name for name in _CI_SYSTEMS if environment.get(name)), "")
    version, problems = {}, []
    for key in KEYS:
        hint = f"pass --{key}"
        value = options.get(key)
        if value is None:
            template = _CI_SYSTEMS.get(system, {}).get(key, "")
            value, missing = _from_ci(template, environment)
            if missing:
                hint = f"set {' and '.join(missing)}, or {hint}"
            if not value and key in _GIT_COMMANDS:
                value, error = _from_git(key)
                hint += f" ({error})"
        version[key] = value = _CREDENTIALS.sub(r"\1\2", value.strip())
        placeholder = find_placeholder(value)
        if placeholder is not None:
            problems.append(f"{key} = {value!r}: {placeholder} was not replaced: {hint}")
        elif not value and key != "version" and (key != "build" or system or key in options):
            problems.append(f"{key} is missing: {hint}")
    return version, problems


def find_placeholder(value: object) -> str | None:
    """Return the name of the first variable that was not replaced, such as ``CIRCLE_SHA1``."""
    match = _find_placeholder(value) if isinstance(value, str) else None
    return None if match is None else next((name for name in match.groups() if name), match[0])


def _from_ci(template: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the value, and the names of the variables that are missing for it."""
    names = re.findall(r"{(\w+)}", template)
    if "GITHUB_REF_NAME" in names and environment.get("GITHUB_REF_TYPE") != "tag":
        return "", []
    missing = [name for name in names if not environment.get(name, "").strip()]
    return ("" if missing else template.format_map(environment)), missing


def _from_git(key: str) -> tuple[str, str]:
    """Return the value, and the first line of git's error."""
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are constants
            ["git", *_GIT_COMMANDS[key]],  # noqa: S607 - git is where PATH has it
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"git: {error}"
    if done.returncode:
        return "", f"git: {done.stderr.partition(chr(10))[0]}"
    return done.stdout.strip(), "git: no value"


def _write(path: str | None, text: str) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(0, "not a regular file")
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=os.path.dirname(path), prefix=f".{FILE_NAME}.", delete=False
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.chmod(file.name, 0o644)  # the app's user has to read it
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
