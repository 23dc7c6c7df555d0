"""The command ``version``: where each value comes from, and which ones are refused."""

from __future__ import annotations

import json
import os
import stat

import pytest
from programs import run
from system import program

from dockerflow_wsgi.__main__ import main
from dockerflow_wsgi.build_version import find_placeholder, make_version

CIRCLECI = {
    "CIRCLECI": "true",
    "CIRCLE_REPOSITORY_URL": "git@github.com:acme/shop.git",
    "CIRCLE_TAG": "v1.2.0",
    "CIRCLE_SHA1": "c0ffee",
    "CIRCLE_BUILD_URL": "https://circleci.com/gh/acme/shop/42",
}
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "acme/shop",
    "GITHUB_REF_TYPE": "tag",
    "GITHUB_REF_NAME": "v1.2.0",
    "GITHUB_SHA": "c0ffee",
    "GITHUB_RUN_ID": "42",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_URL": "https://gitlab.com/acme/shop",
    "CI_COMMIT_TAG": "v1.2.0",
    "CI_COMMIT_SHA": "c0ffee",
    "CI_JOB_URL": "https://gitlab.com/acme/shop/-/jobs/42",
}
JENKINS = {
    "JENKINS_URL": "https://ci.test/",
    "GIT_URL": "https://ada:s3cr3t@git.test/acme/shop",
    "TAG_NAME": "v1.2.0",
    "GIT_COMMIT": "c0ffee",
    "BUILD_URL": "https://ci.test/job/shop/42/",
}
TASKCLUSTER = {"TASKCLUSTER_ROOT_URL": "https://tc.test", "TASK_ID": "abc", "RUN_ID": "0"}
GIVEN = {"source": "https://example.com/shop", "version": "1", "commit": "c", "build": "b"}


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Change to an empty directory, which is not in a git repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


@pytest.fixture
def repository(directory):
    """Make a git repository with a remote and a commit; return the commit's ID."""

    def git(*words):
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        return run(
            [program("git", "git"), *identity, *words], cwd=directory, check=True
        ).stdout.strip()

    git("init", "--quiet")
    git("remote", "add", "origin", "https://x-access-token:s3cr3t@github.com/acme/shop.git")
    git("commit", "--quiet", "--allow-empty", "--message", "Begin")
    return git("rev-parse", "HEAD")


OPTIONS = [word for key, value in GIVEN.items() for word in (f"--{key}", value)]


class TestCISystems:
    """Values come from the variables of the CI system."""

    @pytest.mark.parametrize(
        ("environment", "source", "build"),
        [
            (CIRCLECI, CIRCLECI["CIRCLE_REPOSITORY_URL"], CIRCLECI["CIRCLE_BUILD_URL"]),
            (
                GITHUB,
                "https://github.com/acme/shop",
                "https://github.com/acme/shop/actions/runs/42",
            ),
            (GITLAB, GITLAB["CI_PROJECT_URL"], GITLAB["CI_JOB_URL"]),
            (JENKINS, "https://git.test/acme/shop", JENKINS["BUILD_URL"]),
        ],
        ids=["CircleCI", "GitHub Actions", "GitLab CI", "Jenkins"],
    )
    def test_documented_variables(self, environment, source, build):
        """Each value comes from the variables that the system documents."""
        expected = {"source": source, "version": "v1.2.0", "commit": "c0ffee", "build": build}
        assert make_version({}, environment) == (expected, [])

    def test_taskcluster(self, repository):
        """Taskcluster has the build, and git the rest."""
        version, problems = make_version({}, TASKCLUSTER)
        assert problems == []
        assert version == {
            "source": "https://github.com/acme/shop.git",
            "version": "",
            "commit": repository,
            "build": "https://tc.test/tasks/abc/runs/0",
        }

    def test_a_branch_is_not_a_version(self):
        """``GITHUB_REF_NAME`` is a version for a tag only; the version may be blank."""
        branch = {**GITHUB, "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"}
        version, problems = make_version({}, branch)
        assert (version["version"], problems) == ("", [])


class TestGit:
    """Git fills the gaps."""

    def test_remotes(self, repository, directory):
        """The only remote is the source; with several ones and no origin, git's error is shown."""
        run(["git", "remote", "rename", "origin", "upstream"], cwd=directory, check=True)
        assert make_version({}, {})[0]["source"] == "https://github.com/acme/shop.git"
        run(["git", "remote", "add", "fork", "https://example.com/fork"], cwd=directory, check=True)
        run(["git", "checkout", "--quiet", "--detach"], cwd=directory, check=True)
        (problem,) = make_version({}, {})[1]
        assert problem.startswith(
            "source is missing: pass --source (git: fatal: No remote configured"
        )

    def test_the_tag_and_the_commit(self, repository, directory):
        """The tag of the commit is the version; a build outside of a CI system may be blank."""
        run(["git", "tag", "v2"], cwd=directory, check=True)
        version, problems = make_version({}, {"CIRCLECI": "true", "CIRCLE_BUILD_URL": "https://b"})
        assert problems == []
        assert (version["version"], version["commit"]) == ("v2", repository)
        assert make_version({}, {})[0]["build"] == ""

    def test_git_is_missing(self, monkeypatch):
        """A missing git is reported like any other reason."""
        monkeypatch.setenv("PATH", "")
        _, problems = make_version({"source": "s"}, {})
        assert problems == [
            "commit is missing: pass --commit (git: [Errno 2] No such file or directory: 'git')"
        ]


class TestOptions:
    """Options are used before everything else."""

    def test_an_option_wins(self):
        """Options are used before the variables of a CI system."""
        assert make_version(GIVEN, CIRCLECI) == (GIVEN, [])

    @pytest.mark.parametrize(
        ("source", "shown"),
        [
            ("https://token@github.com/acme/shop", "https://github.com/acme/shop"),
            ("HTTPS://a:b@c@github.com/acme", "HTTPS://github.com/acme"),
            ("ssh://git:s3cr3t@git.test/acme", "ssh://git@git.test/acme"),
            ("ssh://git@git.test:22/acme", "ssh://git@git.test:22/acme"),
            ("git@github.com:acme/shop.git", "git@github.com:acme/shop.git"),
            ("https://git.test/acme/shop@v1", "https://git.test/acme/shop@v1"),
            ("https://git.test:8443/a", "https://git.test:8443/a"),
        ],
    )
    def test_credentials_in_a_url(self, source, shown):
        """The user and password of HTTP and the password of SSH are removed, and nothing else."""
        assert make_version({**GIVEN, "source": source}, {})[0]["source"] == shown


class TestProblems:
    """A value that is missing or unresolved is an error."""

    def test_missing_values(self):
        """Each problem names the variables of the CI system, the option, and git's reason."""
        incomplete = {name: text for name, text in GITHUB.items() if name == "GITHUB_ACTIONS"}
        problems = make_version({}, incomplete)[1]
        assert len(problems) == 3
        source, commit, build = problems
        assert source.startswith(
            "source is missing: set GITHUB_SERVER_URL and GITHUB_REPOSITORY, or pass --source (git"
        )
        assert "set GITHUB_SHA, or pass --commit" in commit
        assert "GITHUB_RUN_ID, or pass --build" in build

    @pytest.mark.parametrize("key", ["source", "commit", "build"])
    def test_a_blank_option(self, key):
        """Only the version may be blank: an unset build argument is an error."""
        problem = f"{key} is missing: pass --{key}"
        assert make_version({**GIVEN, "version": "", key: " "}, {})[1] == [problem]

    def test_a_placeholder(self):
        """A placeholder is refused in an option as in a variable."""
        _, problems = make_version({**GIVEN, "commit": "$CIRCLE_SHA1"}, {})
        assert problems == ["commit = '$CIRCLE_SHA1': CIRCLE_SHA1 was not replaced: pass --commit"]
        _, problems = make_version({}, {**CIRCLECI, "CIRCLE_TAG": "${TAG}"})
        assert problems == ["version = '${TAG}': TAG was not replaced: pass --version"]

    @pytest.mark.parametrize(
        ("value", "name"),
        [
            ("$CIRCLE_SHA1", "CIRCLE_SHA1"),
            ("https://ci.test/${BUILD_ID:-none}", "BUILD_ID"),
            ("$(Build.SourceVersion)", "Build.SourceVersion"),
            ("${{ github.sha }}", "github.sha"),
            ("{{ .Values.commit }}", ".Values.commit"),
            ("%BUILD_VCS_NUMBER%", "BUILD_VCS_NUMBER"),
            ("{{}}", "{{}}"),
            ("https://example.com/a%20b%20c?x=$", None),
            ("1.2.0-rc.1+build.5", None),
            ("", None),
            (None, None),
            (42, None),
        ],
    )
    def test_placeholders_are_found(self, value, name):
        """Placeholders of shells, CI systems and templates are found; ordinary values are not."""
        assert find_placeholder(value) == name


class TestCommand:
    """The command writes the object, or reports the problems."""

    def test_standard_output(self, capsys):
        """The output is one JSON object with the four keys."""
        assert main(["version", *OPTIONS]) == 0
        assert json.loads(capsys.readouterr().out) == GIVEN

    def test_a_file(self, directory, capsys):
        """Everybody may read the file, because the app runs as another user than the build."""
        (directory / "version.json").write_text("old")
        assert main(["version", *OPTIONS, "--output", "version.json"]) == 0
        assert json.loads((directory / "version.json").read_text()) == GIVEN
        assert stat.S_IMODE(os.stat("version.json").st_mode) == 0o644
        assert os.listdir() == ["version.json"]
        assert capsys.readouterr() == ("", "")

    def test_an_error(self, directory, capsys):
        """The exit code is 1, stderr has one line per problem, and the file is unchanged."""
        (directory / "version.json").write_text("old")
        assert main(["version", *OPTIONS, "--commit", "$SHA", "--output", "version.json"]) == 1
        assert (directory / "version.json").read_text() == "old"
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(
            "dockerflow-wsgi version: commit = '$SHA': SHA was not replaced"
        )

    @pytest.mark.parametrize("path", ["no/such/directory/version.json", "."])
    def test_a_path_that_cannot_be_written(self, path, capsys):
        """The exit code is 1, and stderr has the path and the reason."""
        assert main(["version", *OPTIONS, "--output", path]) == 1
        assert capsys.readouterr().err.startswith(f"dockerflow-wsgi version: cannot write {path}: ")
