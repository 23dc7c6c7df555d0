"""The command ``doctor MODULE:APP`` as an operator runs it: output, exit codes, bounds."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from fcntl import ioctl

import psutil
import pytest
from programs import run, running
from waiting import wait_until

from dockerflow_wsgi.__main__ import main

SETTINGS = """
def app(environ, start_response): ...
from dockerflow_wsgi import DockerflowMiddleware
wrapped = DockerflowMiddleware(app, heartbeat_ttl="soon", check_timeout=0)
"""
NO_URL = "redis://u:s3cret"
BARE_APP = "def app(environ, start_response): ...\n"
PROBES = [
    *("import", "middleware", "settings", "version_json", "port", "user"),
    *("endpoint_version", "endpoint_heartbeat", "endpoint_lbheartbeat", "summary", "checks"),
]


def is_zombie(pid):
    """Return whether a process has ended, and only waits for its parent."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def in_terminal(directory, columns, *arguments, **environment):
    """Run the command in a terminal, and return its output."""
    terminal, screen = pty.openpty()
    ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    shown = b""
    command = [sys.executable, "-m", "dockerflow_wsgi", "doctor", *arguments]
    with running(command, cwd=directory, stdout=screen, TERM="xterm", **environment):
        os.close(screen)
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(terminal, 4096):
                shown += data
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n")


class TestReport:
    """The report has each step, and the exit code follows from it."""

    def test_a_good_app(self, doctor):
        """The exit code is 0. The names of the steps and their order are stable."""
        done = doctor("app:wrapped", "--json")
        assert done.code == 0
        assert done.report["ok"] is True
        assert [probe["name"] for probe in done.report["probes"]] == PROBES
        assert done.red == []
        assert done.report["config"]["target"] == "app:wrapped"
        assert done.report["config"]["settings"]["check_timeout"] == 4.0
        assert set(done["import"]) >= {"name", "ok", "status", "message", "remedy", "details"}

    def test_text(self, doctor):
        """A pipe gets aligned text without colours; failed steps are repeated with remedies."""
        done = doctor("app:wrapped", PORT="none")
        assert done.code == 1
        assert "\x1b" not in done.out
        assert (
            "\nerror    port                  PORT is 'none', which is not a port number\n"
            in done.out
        )
        repeated = (
            "\nerror: port\n  PORT is 'none', which is not a port number\n"
            "  -> Set PORT to a number from 1 to 65535, or unset it\n"
        )
        assert repeated in done.out
        assert done.out.splitlines()[-1].startswith("1 error, ")

    @pytest.mark.parametrize("name", ["version_json", "check:fails", "checks"])
    def test_skip(self, doctor, name):
        """A step with the name given is skipped, and does not fail."""
        code = doctor.app + "wrapped.check(lambda: 1 / 0, name='fails')\n"
        done = doctor("app:wrapped", "--json", "--skip", name, code=code)
        status = {probe["name"]: probe["status"] for probe in done.report["probes"]}
        assert status[name] == "skipped"
        assert done.red == (["check:fails"] if name == "version_json" else [])
        assert done.code == bool(done.red)

    def test_a_closed_pipe(self, doctor):
        """A pipe that closes early causes no traceback."""
        command = f"{sys.executable} -m dockerflow_wsgi doctor app:wrapped"
        done = run(["bash", "-c", f"{command} | true"], cwd=doctor.directory, check=True)
        assert done.stderr == ""

    @pytest.mark.parametrize(
        "value", ["s = []\nfor _ in range(600): s = [s]\n", "s = float('nan')\n", "s = b'x'\n"]
    )
    def test_json_of_any_object(self, doctor, value):
        """The report is valid JSON, also with values that JSON cannot hold."""
        code = doctor.app + value
        code += "keys = ('source', 'version', 'commit', 'build')\n"
        code += "wrapped.version_callback(lambda _root: dict.fromkeys(keys, s))\n"
        done = doctor("app:wrapped", "--json", code=code)
        report = json.loads(done.out, parse_constant=pytest.fail)
        assert [probe["name"] for probe in report["probes"]] == PROBES

    def test_lines_are_not_held_back(self, doctor):
        """Each line is written when its step is done."""
        code = doctor.app + "import os, time\n@wrapped.check\ndef slow():\n"
        code += "    while not os.path.exists('gate'): time.sleep(0.01)\n"
        (doctor.directory / "app.py").write_text(code)
        command = [sys.executable, "-m", "dockerflow_wsgi", "doctor", "app:wrapped"]
        with running(command, cwd=doctor.directory) as program:
            program.wait_for("version_json")
            assert program.is_alive
            (doctor.directory / "gate").touch()
            program.wait_for("check:slow")

    def test_levels(self, doctor):
        """Levels are shown by name."""
        assert (
            doctor("app:wrapped", "--json").report["config"]["settings"]["heartbeat_failed_level"]
            == "warning"
        )

    def test_watch(self, doctor):
        """The steps are repeated until Ctrl-C, the import is not; the last exit code counts."""
        path = doctor.directory / "version.json"
        content = path.read_text()
        command = [sys.executable, "-m", "dockerflow_wsgi", "doctor", "app:wrapped", "--json"]
        with running([*command, "--watch", "0.05"], cwd=doctor.directory) as program:
            program.wait_for('{"ok": true')
            path.unlink()
            program.wait_for('{"ok": false')
            path.write_text(content)
            program.wait_for('{"ok": true')
            path.unlink()
            program.wait_for('{"ok": false')
            assert program.stop(signal.SIGINT) == 1

    def test_a_closed_output(self, version_directory):
        """Without an output the command only has its exit code."""
        (version_directory / "app.py").write_text(BARE_APP)
        command = f"{sys.executable} -m dockerflow_wsgi doctor app:app >&-"
        done = run(["bash", "-c", command], cwd=version_directory)
        assert (done.returncode, done.stderr) == (1, "")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
    def test_a_full_disk(self, version_directory):
        """A report that cannot be written is one line on stderr and exit code 1."""
        (version_directory / "app.py").write_text(BARE_APP)
        command = f"{sys.executable} -m dockerflow_wsgi doctor app:app --json > /dev/full"
        done = run(["bash", "-c", command], cwd=version_directory)
        assert done.returncode == 1
        assert "doctor: error: " in done.stderr
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr


class TestMisuse:
    """Misuse is exit code 2, with the reason on stderr."""

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["app:wrapped", "--url", "http://127.0.0.1"],
            [":app"],
            ["app:"],
            ["app:a b"],
            ["app:wrapped(x)"],
            ["1:app"],
            ["--url", "http://127.0.0.1", "--skip", "version_json"],
            ["--url", "ftp://127.0.0.1"],
            ["--url", "http://:80"],
            ["--url", "http://127.0.0.1:99999"],
            ["app:wrapped", "--nonsense"],
            ["app:wrapped", "--timeout", "0"],
            ["app:wrapped", "--timeout", "nan"],
            ["app:wrapped", "--timeout", "soon"],
            ["app:wrapped", "--chdir", "/nowhere"],
        ],
    )
    def test_exit_code(self, capsys, arguments):
        """Stderr has the usage, and stdout is empty."""
        with pytest.raises(SystemExit) as raised:
            main(["doctor", *arguments])
        printed = capsys.readouterr()
        assert (raised.value.code, printed.out) == (2, "")
        assert printed.err.startswith("usage: dockerflow-wsgi")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["http://ada:s3cret@host/"],
            ["app:wrapped", "http://ada:s3cret@host/"],
            ["app:wrapped", "--timeout", "http://ada:s3cret@host/"],
            ["app:wrapped", "--chdir", "/http://ada:s3cret@host/"],
            ["app:wrapped", "--skip", "password=s3cret"],
            ["--url", "http://ada:s3cret/@host"],
            ["--url", "http://ada:s3cret@host/"],
            ["--url", "http://host/ /?token=s3cret"],
            ["http://host/?token=s3cret"],
            ["serve", "app:wrapped", "http://ada:s3cret@host/"],
        ],
    )
    def test_no_password(self, doctor, arguments):
        """A password in a wrong argument is redacted."""
        done = doctor(*arguments)
        assert (done.code, done.out) == (2, "")
        assert "s3cret" not in done.err
        assert "error: " in done.err

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["app:wrapped", "--skip", "import"], "unknown step; the steps are: settings, "),
            (["app:wrapped", "--skip", "nonsense"], "nonsense"),
            (["app:wrapped", "--skip", "check:typo"], "checks, check:real"),
            (["app:wrapped", "--timeout", "abc"], "'abc': expected a number of seconds above 0"),
            (
                ["--url", "localhost:8761"],
                "'localhost:8761': expected a URL such as https://host",
            ),
        ],
    )
    def test_the_reason(self, doctor, arguments, expected):
        """The message has the expected form."""
        done = doctor(*arguments, code=doctor.app + "wrapped.check(lambda: [], name='real')\n")
        assert (done.code, done.out) == (2, "")
        assert expected in done.err


class TestImport:
    """The step `import` names the line and the remedy."""

    @pytest.mark.parametrize(
        ("target", "code", "reason", "remedy"),
        [
            ("nowhere:app", "", "there is no module 'nowhere' in ", "directory"),
            (
                "app.py:wrapped",
                "",
                "there is no module 'app.py'",
                "Name the module, not its file: app",
            ),
            ("app:wraped", "", "has no 'wraped': did you mean 'wrapped'?", "MODULE:NAME"),
            ("app:app", "app = 1", "app is not a WSGI app: 1 is not", "callable"),
            ("app:app", "def app(): ...", "app is not a WSGI app: too many", "app:app()"),
            ("app:app", "import nowhere", "app.py:1: No module named 'nowhere'", "Install"),
            ("app:app", "\n1 +", "app.py:2: SyntaxError", "Fix"),
            ("app:app", "\n\n1 / 0", "app.py:3: ZeroDivisionError: division by zero", "Fix"),
            ("app:app", "import sys\nsys.exit(3)", "app.py:2: SystemExit: 3", "Fix"),
            ("app:make()", "def make():\n    1 / 0", "app.py:2: ZeroDivisionError", "Fix"),
            ("app:app", "raise ValueError('redis://:s3cr3t@h')", "redis://:***@h", "Fix"),
            ("app:app", "import os\nos.environ['SECRET']", "KeyError", "variable SECRET"),
            (
                "app:app",
                f"import redis\nredis.Redis.from_url({NO_URL!r})",
                "app.py:2: the URL's port is not a number",
                "%2F",
            ),
            (
                "app:app",
                "import sqlalchemy as s\ns.create_engine('nothing')",
                "app.py:2: ArgumentError",
                "value",
            ),
            ("app:app", "from nowhere.at import all", "No module named 'nowhere'", "Install"),
        ],
    )
    def test_each_reason(self, doctor, target, code, reason, remedy):
        """The message has the line of the app; the other steps are skipped."""
        done = doctor(target, "--json", code=code)
        assert done.code == 1
        assert done.red == ["import"]
        assert reason in done["import"]["message"]
        assert remedy in done["import"]["remedy"]
        assert "s3cret" not in done.out
        assert "Traceback" not in done.err
        assert [probe["name"] for probe in done.report["probes"]] == PROBES
        assert {probe["status"] for probe in done.report["probes"]} == {"error", "skipped"}
        assert done["port"]["message"] == "the step import failed"

    def test_wrong_settings(self, doctor):
        """All wrong settings are reported together, with their values and sources."""
        done = doctor("app:wrapped", "--json", code=SETTINGS, DOCKERFLOW_DISABLED="perhaps")
        assert done.code == 1
        assert done.red == ["import"]
        for name in ("heartbeat_ttl = 'soon'", "check_timeout = 0", "DOCKERFLOW_DISABLED"):
            assert name in done["import"]["message"]
        assert done["import"]["message"].startswith("app.py:4: the configuration is wrong: ")

    def test_an_app_wrapped_twice(self, doctor):
        """Wrapping an app twice fails with the line."""
        code = doctor.app + "outer = DockerflowMiddleware(wrapped)\n"
        done = doctor("app:outer", "--json", code=code)
        assert done.red == ["import"]
        assert done["import"]["message"] == (
            "app.py:13: the configuration is wrong: app is a DockerflowMiddleware: "
            "wrap an app only once"
        )

    def test_a_factory(self, doctor):
        """A factory is called with its arguments, as gunicorn does."""
        code = doctor.app + "def make(one, two=0):\n    assert (one, two) == (1, 'x')\n"
        done = doctor("app:make(1, two='x')", "--json", code=code + "    return wrapped\n")
        assert done.red == []

    def test_chdir(self, doctor):
        """With --chdir, the app is imported from that directory."""
        (doctor.directory / "below").mkdir()
        (doctor.directory / "below" / "other.py").write_text(doctor.app)
        done = doctor("other:wrapped", "--json", "--chdir", "below")
        assert done.red == ["version_json"]
        assert str(doctor.directory / "below") in done["version_json"]["message"]

    def test_a_directory_that_is_gone(self, doctor):
        """A current directory that was removed is a failure without a traceback."""
        command = (
            f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -m dockerflow_wsgi doctor a:b"
        )
        done = run(["bash", "-c", command], cwd=doctor.directory)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "the current directory is gone" in done.stdout

    def test_without_extras(self, doctor):
        """No optional package is imported."""
        code = "import sys\nfor name in ('sqlalchemy', 'redis', 'flask', 'alembic', 'blinker'):\n"
        code += "    sys.modules[name] = None\n"
        assert doctor("app:wrapped", code=code + doctor.app).code == 0

    def test_a_module_alone(self, doctor):
        """The name is `application` by default, as in gunicorn."""
        done = doctor("app", "--json", code=f"{doctor.app}application = wrapped\n")
        assert done.red == []
        assert done["import"]["message"].startswith("app:application is DockerflowMiddleware")


class TestMiddleware:
    """The steps `middleware` and `settings` come before those that need them."""

    def test_disabled(self, doctor):
        """A disabled middleware fails once, and the steps after it are skipped."""
        done = doctor("app:wrapped", "--json", DOCKERFLOW_DISABLED="1")
        assert done.red == ["settings"]
        assert done["summary"]["status"] == "skipped"

    def test_no_middleware(self, doctor):
        """An app without a middleware fails once; the remedy has the code."""
        done = doctor("app:app", "--json")
        assert done.red == ["middleware"]
        told = done["middleware"]["remedy"]
        assert told.endswith("if not, write application = DockerflowMiddleware(application)")

    def test_flask_without_a_middleware(self, doctor):
        """The remedy for a Flask app wraps its `wsgi_app`."""
        code = "from flask import Flask\napp = Flask(__name__)\n"
        done = doctor("app:app", "--json", code=code)
        assert done.red[0] == "middleware"
        told = done["middleware"]["remedy"]
        assert told.endswith("write app.wsgi_app = DockerflowMiddleware(app.wsgi_app)")

    def test_settings_of_flask_that_are_set_late(self, doctor):
        """Settings that an app sets after the extension count, as they do when it is served."""
        code = "from flask import Flask\nfrom dockerflow_wsgi.flask import Dockerflow, checks\n"
        code += "app = Flask('shop')\ndockerflow = Dockerflow(app, version_path='.')\n"
        code += "app.config['DOCKERFLOW_HEARTBEAT_FAILED_LEVEL'] = 'error'\n"
        code += "dockerflow.check(lambda: checks.Warning('low'), name='disk')\n"
        done = doctor("app:app", "--json", "--skip", "summary", code=code)
        assert done.red == []
        assert done["middleware"]["message"] == (
            "DockerflowMiddleware around Flask.wsgi_app (flask.app)"
        )
        assert done["settings"]["message"].endswith(" heartbeat_failed_level=error")
        assert done["check:disk"]["status"] == "warning"

    def test_several_version_paths(self, doctor):
        """Several directories are shown in one line."""
        code = doctor.app + "wrapped = DockerflowMiddleware(app, version_path=['.', '/nowhere'])\n"
        done = doctor("app:wrapped", "--json", code=code)
        assert done["settings"]["message"] == "version_path=., /nowhere"

    def test_a_proxy(self, doctor):
        """A wrapper with a `__getattr__` that raises is searched without calling it."""
        code = doctor.app + "class Proxy:\n    def __init__(self): self.app = wrapped\n"
        code += "    def __getattr__(self, name): raise RuntimeError(name)\n"
        code += "    def __call__(self, *arguments): return self.app(*arguments)\nproxy = Proxy()\n"
        done = doctor("app:proxy", "--json", code=code)
        assert (done.red, done.err) == ([], "")

    def test_misspelt_variables(self, doctor):
        """A misspelt variable is a warning with the nearest setting."""
        done = doctor("app:wrapped", "--json", DOCKERFLOW_CHECK_TIMOUT="3")
        assert done.red == []
        assert done["settings"]["status"] == "warning"
        assert "DOCKERFLOW_CHECK_TIMEOUT" in done["settings"]["message"]

    def test_misspelt_keys_of_flask(self, doctor):
        """A misspelt key of Flask's configuration is a warning with its place."""
        code = "from flask import Flask\nfrom dockerflow_wsgi.flask import Dockerflow\n"
        code += "app = Flask('shop')\nDockerflow(app)\napp.config['DOCKERFLOW_HEARTBEET_TTL'] = 1\n"
        done = doctor("app:app", "--json", "--skip", "version_json", code=code)
        assert done["settings"]["status"] == "warning"
        assert 'app.config["DOCKERFLOW_HEARTBEET_TTL"]' in done["settings"]["message"]
        assert done["settings"]["remedy"] == "Correct the names, or remove them"

    def test_wrong_values_of_flask_that_are_set_late(self, doctor):
        """A wrong value in Flask's configuration is a failure, though the app keeps the old one."""
        code = "from flask import Flask\nfrom dockerflow_wsgi.flask import Dockerflow\n"
        code += (
            "app = Flask('shop')\nDockerflow(app)\napp.config['DOCKERFLOW_HEARTBEAT_TTL'] = 'x'\n"
        )
        done = doctor("app:app", "--json", code=code)
        assert "heartbeat_ttl = 'x'" in done["settings"]["message"]
        assert done["settings"]["status"] == "error"

    def test_a_password_in_the_details(self, doctor):
        """A value under the name of a credential is not shown in the JSON."""
        code = doctor.app + "wrapped.version_callback(lambda _: {'password': 'hunter2'})\n"
        done = doctor("app:wrapped", "--json", code=code)
        assert "hunter2" not in done.out

    def test_a_bypassed_middleware(self, doctor):
        """A `wsgi_app` that was taken before fails with the name of the Flask app."""
        code = "from flask import Flask\nfrom dockerflow_wsgi.flask import Dockerflow\n"
        code += "shop = Flask('shop')\ntaken = shop.wsgi_app\nDockerflow(shop)\n"
        done = doctor("app:taken", "--json", "--skip", "version_json", code=code)
        assert done.red == ["middleware"]
        assert (
            "app.wsgi_app of the Flask app 'shop' was taken before" in done["middleware"]["message"]
        )
        assert "Create Dockerflow(app) before" in done["middleware"]["remedy"]


class TestIsolation:
    """An app can neither hold up the report nor spoil it."""

    def test_output_of_the_app(self, doctor):
        """Output of the app and of its child processes goes to stderr."""
        code = "import os\nprint('noise')\nos.system('echo noise')\n" + doctor.app
        code += "wrapped.check(lambda: print('noise'), name='prints')\n"
        done = doctor("app:wrapped", "--json", code=code)
        assert done.red == []
        assert done.err.count("noise") == 3

    def test_an_import_that_hangs(self, doctor):
        """The import fails after --timeout, and the message has the line."""
        code = "import time\nwhile True:\n    try:\n        time.sleep(600)\n    except: pass\n"
        done = doctor("app:app", "--json", "--timeout", "1", code=code)
        assert done.code == 1
        message = done["import"]["message"]
        assert message == "not imported after 1 s; it was at app.py:4 in <module>: time.sleep(600)"

    def test_gevent(self, doctor):
        """An app that is patched by gevent during its import is examined."""
        code = "from gevent import monkey\nmonkey.patch_all()\n" + doctor.app
        code += (
            "import time\nwrapped = DockerflowMiddleware(app, version_path='.', check_timeout=1)\n"
        )
        code += "wrapped.check(lambda: time.sleep(600), name='sleeps')\n"
        code += "wrapped.check(lambda: [], name='fine')\n"
        done = doctor("app:wrapped", "--json", code=code)
        assert done.red == ["check:sleeps"]
        assert "Exception" not in done.err

    def test_a_thread_that_stays(self, doctor):
        """A thread that never ends does not keep the command running."""
        code = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
        assert doctor("app:wrapped", code=code + doctor.app).code == 0

    def test_a_callback_that_hangs(self, doctor):
        """The step of a callback that hangs fails with the line; later steps run."""
        code = doctor.app + "import time\nwrapped.version_callback(lambda _root: time.sleep(600))\n"
        done = doctor("app:wrapped", "--json", "--timeout", "0.5", code=code)
        assert done.code == 1
        assert "version_json" in done.red
        assert "it was at app.py:14 in <lambda>" in done["version_json"]["message"]
        assert done["summary"]["status"] == "ok"

    def test_a_callback_that_exits(self, doctor):
        """A callback that calls `sys.exit` fails its step; all steps are reported."""
        code = doctor.app + "import sys\nwrapped.version_callback(lambda _root: sys.exit(0))\n"
        done = doctor("app:wrapped", "--json", code=code)
        assert done.code == 1
        assert done["version_json"]["message"] == "app.py:14: SystemExit: 0"
        assert [probe["name"] for probe in done.report["probes"]] == PROBES

    def test_an_import_that_ends_the_process(self, doctor):
        """`os._exit` during the import is a failure; in a child of the app it is not."""
        child = "import os\nif not os.fork(): os._exit(0)\nos.wait()\n"
        assert doctor("app:wrapped", "--json", code=child + doctor.app).red == []
        done = doctor("app:wrapped", "--json", code=f"{child}os._exit(0)\n")
        assert (done.code, done.red) == (1, ["import"])
        assert done["import"]["message"].startswith(
            "the process ended with exit code 0 (os._exit()"
        )

    def test_a_process_that_the_app_starts(self, doctor):
        """Processes that the app has started end with the command, which does not wait for them."""
        code = "import subprocess\nprocess = subprocess.Popen(['sleep', '600'])\n"
        code += "open('pid', 'w').write(str(process.pid))\n" + doctor.app
        assert doctor("app:wrapped", "--json", code=code).red == []
        pid = int((doctor.directory / "pid").read_text())
        wait_until(lambda: not psutil.pid_exists(pid) or is_zombie(pid))

    def test_an_import_that_is_killed(self, doctor):
        """The message names the signal, and the remedy does not ask the app to raise."""
        done = doctor("app:app", "--json", code="import os\nos.kill(os.getpid(), 9)\n")
        assert done["import"]["message"] == "the process was ended by signal 9"
        assert done["import"]["remedy"].startswith("Look in the system's log")

    @pytest.mark.parametrize("is_json", [True, False])
    def test_a_check_that_ends_the_process(self, doctor, is_json):
        """`os._exit` in a check is a failure, and the earlier results are reported."""
        code = doctor.app + "import os\n@wrapped.check\ndef leaves():\n    os._exit(3)\n"
        done = doctor("app:wrapped", *["--json"] * is_json, code=code)
        said = "the process ended with exit code 3 (os._exit()"
        assert (done.code, done.err) == (1, "")
        if is_json:
            assert done.red == ["checks"]
            assert done["checks"]["message"].startswith(said)
            assert done["import"]["ok"]
        else:
            assert "error    checks" in done.out
            assert said in " ".join(done.out.split())
            assert "1 error" in done.out

    def test_sigint_is_ignored(self, doctor):
        """An app that hangs and ignores SIGINT does not keep the command running."""
        code = (
            "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)\n"
        )
        (doctor.directory / "app.py").write_text(code)
        program = f"{sys.executable} -m dockerflow_wsgi doctor app:app --timeout 1"
        done = run(["bash", "-c", f"trap '' INT; {program} | head -1"], cwd=doctor.directory)
        assert done.stdout.startswith("dockerflow-wsgi doctor app:app")

    def test_an_installed_app_that_hangs(self, doctor):
        """The line of an app that is installed as a package is found."""
        packages = doctor.directory / "lib" / "site-packages"
        packages.mkdir(parents=True)
        (packages / "shop.py").write_text("import time\ntime.sleep(600)\n")
        script = os.path.join(os.path.dirname(sys.executable), "dockerflow-wsgi")
        command = [script, "doctor", "shop", "--timeout", "1"]
        done = run(command, cwd=doctor.directory, PYTHONPATH=str(packages))
        assert "it was at lib/site-packages/shop.py:2 in <module>" in " ".join(done.stdout.split())

    def test_a_step_that_keeps_the_interpreter(self, doctor):
        """A step that never releases the interpreter is given up, and the process is ended."""
        code = doctor.app + "import re\n"
        code += "wrapped.version_callback(lambda _root: re.match('(a+)+$', 'a' * 40 + 'b'))\n"
        done = doctor("app:wrapped", "--json", "--timeout", "1", code=code)
        assert done.red == ["version_json"]
        assert done["version_json"]["message"] == "not done after 1 s"

    def test_an_interrupted_import(self, version_directory):
        """Ctrl-C before the report is exit code 130, without a traceback."""
        code = "import time\nprint('here', flush=True)\ntime.sleep(600)\n"
        (version_directory / "app.py").write_text(code)
        command = [sys.executable, "-m", "dockerflow_wsgi", "doctor", "app:app"]
        with running(command, cwd=version_directory) as program:
            program.wait_for("here")
            assert program.stop(signal.SIGINT) == 130
            assert "Traceback" not in program.output

    @pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="it needs a directory there")
    def test_a_read_only_file_system(self, doctor):
        """The line of a step that hangs is found without a directory for temporary files."""
        code = doctor.app + "import time\nwrapped.version_callback(lambda _root: time.sleep(600))\n"
        (doctor.directory / "app.py").write_text(code)
        (doctor.directory / "hangs.py").write_text("import time\ntime.sleep(600)\n")
        command = (
            "import tempfile; tempfile.tempdir = '/nowhere'; import dockerflow_wsgi.__main__ as m; "
        )
        command += "raise SystemExit(m.main(['doctor', '{}', '--timeout', '1']))"
        for target, expected in (
            ("app:wrapped", "it was at app.py:14"),
            ("hangs", "it was at hangs.py:2"),
        ):
            done = run([sys.executable, "-c", command.format(target)], cwd=doctor.directory)
            assert (done.returncode, done.stderr) == (1, "")
            assert expected in " ".join(done.stdout.split())


class TestNothingIsChanged:
    """The command creates and removes nothing."""

    def test_a_missing_sqlite_file(self, doctor):
        """A missing SQLite file is a failure with its path and a remedy."""
        code = doctor.app + "from sqlalchemy import create_engine\n"
        code += "engine = create_engine('sqlite:///a.db')\n"
        code += "wrapped = DockerflowMiddleware(app, version_path='.', db=engine)\n"
        done = doctor("app:wrapped", "--json", code=code)
        probe = done["check:check_database_connected"]
        assert f"The SQLite file {doctor.directory / 'a.db'} does not exist" in probe["message"]
        assert "create the database" in probe["remedy"]

    def test_the_sqlite_file_of_migrations(self, doctor):
        """The SQLite file of an Alembic config is not created."""
        code = f"{doctor.app}from alembic.config import Config\nconfig = Config()\n"
        code += "config.set_main_option('sqlalchemy.url', 'sqlite:///a.db')\n"
        code += "config.set_main_option('script_location', '.')\n"
        code += "wrapped = DockerflowMiddleware(app, version_path='.', migrate=config)\n"
        assert doctor("app:wrapped", "--json", code=code).red == []
        assert not (doctor.directory / "a.db").exists()

    def test_no_file_and_no_page(self, doctor):
        """No file is created, no page is requested, and no hook is called."""
        code = (
            doctor.app
            + """
from sqlalchemy import create_engine
wrapped = DockerflowMiddleware(
    lambda *_: open("asked", "w"),
    db=create_engine("sqlite:///a.db"),
    version_path=".",
    on_heartbeat=lambda report: open("called", "w"),
)
"""
        )
        before = sorted(os.listdir(doctor.directory))
        done = doctor("app:wrapped", "--json", code=code)
        assert sorted(os.listdir(doctor.directory)) == before
        assert done.red == ["check:check_database_connected"]


class TestTerminal:
    """A terminal gets colours and its own width."""

    def test_colours(self, doctor):
        """Steps that pass are green, and steps that fail are red."""
        shown = in_terminal(doctor.directory, 100, "app:wrapped", PORT="none")
        assert "\x1b[32mok       \x1b[0mimport " in shown
        assert "\x1b[1;31merror    \x1b[0mport " in shown

    def test_no_color(self, doctor):
        """NO_COLOR turns the colours off."""
        shown = in_terminal(doctor.directory, 100, "app:wrapped", NO_COLOR="1")
        assert "\nok       import " in shown
        assert "\x1b" not in shown

    def test_a_narrow_terminal(self, doctor):
        """Lines are wrapped at the terminal's width, except for long paths."""
        shown = in_terminal(doctor.directory, 60, "app:wrapped", NO_COLOR="1", PORT="none")
        assert "\nerror    port                  PORT is 'none', which is not\n" in shown
        too_long = [line for line in shown.splitlines() if len(line) > 60 and "/" not in line]
        assert [line for line in too_long if not re.match(r"dockerflow-wsgi doctor", line)] == []


def test_main_returns_the_exit_code():
    """``main`` of the command returns the exit code, and does not end the process."""
    code = "from dockerflow_wsgi.__main__ import main\n"
    code += 'print(main(["doctor", "no_such_module:app", "--skip", "version_json"]), "goes on")'
    assert run([sys.executable, "-c", code], check=True).stdout.endswith("1 goes on\n")
