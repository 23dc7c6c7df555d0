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

import pytest
from programs import run, running

from dockerflow_wsgi.__main__ import main

SETTINGS = """
def app(environ, start_response): ...
from dockerflow_wsgi import DockerflowMiddleware
wrapped = DockerflowMiddleware(app, heartbeat_ttl="soon", check_timeout=0)
"""
NO_URL = "redis://u:s3cret"
PROBES = [
    *("import", "middleware", "settings", "version_json", "port", "user"),
    *("endpoint_version", "endpoint_heartbeat", "endpoint_lbheartbeat", "summary", "checks"),
]


def test_an_app_that_fulfils_everything_is_green(doctor):
    """Exit code 0; the names of the steps are stable, and so is their order."""
    done = doctor("app:wrapped", "--json")
    assert done.code == 0
    assert done.report["ok"] is True
    assert [probe["name"] for probe in done.report["probes"]] == PROBES
    assert done.red == []
    assert done.report["config"]["target"] == "app:wrapped"
    assert done.report["config"]["settings"]["check_timeout"] == 4.0
    assert set(done["import"]) >= {"name", "ok", "status", "message", "remedy", "details"}


def test_the_report_is_plain_aligned_text_where_it_is_piped(doctor):
    """Each step on a line, and its remedy below."""
    done = doctor("app:wrapped", PORT="none")
    assert done.code == 1
    assert "\x1b" not in done.out
    assert (
        "\nerror    port                  PORT is 'none', which is not a port number\n" in done.out
    )
    repeated = (
        "\nerror: port\n  PORT is 'none', which is not a port number\n"
        "  -> Set PORT to a number from 1 to 65535, or unset it\n"
    )
    assert repeated in done.out
    assert done.out.splitlines()[-1].startswith("1 error, ")


@pytest.mark.parametrize("name", ["version_json", "check:fails", "checks"])
def test_a_step_can_be_left_out(doctor, name):
    """By the name that the report shows; a check's own name will do too."""
    code = doctor.app + "wrapped.check(lambda: 1 / 0, name='fails')\n"
    done = doctor("app:wrapped", "--json", "--skip", name, code=code)
    status = {probe["name"]: probe["status"] for probe in done.report["probes"]}
    assert status[name] == "skipped"
    assert done.red == (["check:fails"] if name == "version_json" else [])
    assert done.code == bool(done.red)


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
def test_misuse_is_exit_code_2(capsys, arguments):
    """With the use on standard error, and nothing on standard output."""
    with pytest.raises(SystemExit) as raised:
        main(["doctor", *arguments])
    printed = capsys.readouterr()
    assert (raised.value.code, printed.out) == (2, "")
    assert printed.err.startswith("usage: dockerflow-wsgi")


@pytest.mark.parametrize(
    ("target", "code", "reason", "remedy"),
    [
        ("nowhere:app", "", "there is no module 'nowhere' in ", "directory"),
        ("app.py:wrapped", "", "there is no module 'app.py'", "Correct"),
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
def test_an_app_that_cannot_be_imported_is_a_failure(doctor, target, code, reason, remedy):
    """The line of the app's own code is named, and no traceback of ours is shown."""
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


def test_wrong_settings_are_told_all_together(doctor):
    """With their values, and where they come from."""
    done = doctor("app:wrapped", "--json", code=SETTINGS, DOCKERFLOW_DISABLED="perhaps")
    assert done.code == 1
    assert done.red == ["import"]
    for name in ("heartbeat_ttl = 'soon'", "check_timeout = 0", "DOCKERFLOW_DISABLED"):
        assert name in done["import"]["message"]
    assert done["import"]["message"].startswith("app.py:4: the configuration is wrong: ")


def test_wrapping_an_app_twice_is_reported(doctor):
    """The step of the import fails, with the line and both objects."""
    code = doctor.app + "outer = DockerflowMiddleware(wrapped)\n"
    done = doctor("app:outer", "--json", code=code)
    assert done.red == ["import"]
    assert done["import"]["message"] == (
        "app.py:13: the configuration is wrong: app is a DockerflowMiddleware: "
        "wrap an app only once"
    )


def test_a_dockerflow_that_is_switched_off_is_told(doctor):
    """It is the one reason; what depends on it is not red."""
    done = doctor("app:wrapped", "--json", DOCKERFLOW_DISABLED="1")
    assert done.red == ["settings"]
    assert done["summary"]["status"] == "skipped"


def test_an_app_without_a_middleware_is_told(doctor):
    """What looks at one is not red."""
    done = doctor("app:app", "--json")
    assert done.red == ["middleware"]
    told = done["middleware"]["remedy"]
    assert told.startswith("Wrap the app: application = DockerflowMiddleware(application). ")


def test_a_flask_app_without_a_middleware_is_told_how_flask_is_wrapped(doctor):
    """In such a way that its name, and what else is the app's, stays."""
    code = "from flask import Flask\napp = Flask(__name__)\n"
    done = doctor("app:app", "--json", code=code)
    assert done.red[0] == "middleware"
    told = done["middleware"]["remedy"]
    assert told.startswith("Wrap the app: app.wsgi_app = DockerflowMiddleware(app.wsgi_app). ")


def test_several_version_paths_are_shown_as_such(doctor):
    """No variable takes them in that form."""
    code = doctor.app + "wrapped = DockerflowMiddleware(app, version_path=['.', '/nowhere'])\n"
    done = doctor("app:wrapped", "--json", code=code)
    assert done["settings"]["message"] == "version_path=., /nowhere"


def test_a_factory_is_called_with_its_arguments(doctor):
    """As gunicorn has it."""
    code = doctor.app + "def make(one, two=0):\n    assert (one, two) == (1, 'x')\n"
    done = doctor("app:make(1, two='x')", "--json", code=code + "    return wrapped\n")
    assert done.red == []


def test_what_the_app_prints_is_kept_out_of_the_report(doctor):
    """Whoever prints it, by whatever way, on whichever thread."""
    code = "import os\nprint('noise')\nos.system('echo noise')\n" + doctor.app
    code += "wrapped.check(lambda: print('noise'), name='prints')\n"
    done = doctor("app:wrapped", "--json", code=code)
    assert done.red == []
    assert done.err.count("noise") == 3


def test_an_import_that_hangs_is_told_with_its_line(doctor):
    """In time, whatever it catches."""
    code = "import time\nwhile True:\n    try:\n        time.sleep(600)\n    except: pass\n"
    done = doctor("app:app", "--json", "--timeout", "1", code=code)
    assert done.code == 1
    message = done["import"]["message"]
    assert message == "not imported after 1 s; it was at app.py:4 in <module>: time.sleep(600)"


def test_an_app_patched_by_gevent_is_looked_at(doctor):
    """Though the patch is made while the doctor watches the import."""
    code = "from gevent import monkey\nmonkey.patch_all()\n" + doctor.app
    code += "import time\nwrapped = DockerflowMiddleware(app, version_path='.', check_timeout=1)\n"
    code += "wrapped.check(lambda: time.sleep(600), name='sleeps')\n"
    code += "wrapped.check(lambda: [], name='fine')\n"
    done = doctor("app:wrapped", "--json", code=code)
    assert done.red == ["check:sleeps"]
    assert "Exception" not in done.err


def test_threads_that_the_app_leaves_do_not_keep_it_alive(doctor):
    """The process ends though one of them never does."""
    code = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    assert doctor("app:wrapped", code=code + doctor.app).code == 0


def test_the_app_is_found_in_another_directory(doctor):
    """That becomes the current one, as with gunicorn's --chdir."""
    (doctor.directory / "below").mkdir()
    (doctor.directory / "below" / "other.py").write_text(doctor.app)
    done = doctor("other:wrapped", "--json", "--chdir", "below")
    assert done.red == ["version_json"]
    assert str(doctor.directory / "below") in done["version_json"]["message"]


def test_a_report_that_nobody_reads_is_no_traceback(doctor):
    """As in a pipe to a command that ends early."""
    command = f"{sys.executable} -m dockerflow_wsgi doctor app:wrapped"
    done = run(["bash", "-c", f"{command} | true"], cwd=doctor.directory, check=True)
    assert done.stderr == ""


def test_a_directory_that_is_gone_is_no_traceback(doctor):
    """As after a deployment that replaced it."""
    command = f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -m dockerflow_wsgi doctor a:b"
    done = run(["bash", "-c", command], cwd=doctor.directory)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the current directory is gone" in done.stdout


def test_it_works_without_any_extra(doctor):
    """Neither SQLAlchemy nor a Redis client is imported by the doctor."""
    code = "import sys\nfor name in ('sqlalchemy', 'redis', 'flask', 'alembic', 'blinker'):\n"
    code += "    sys.modules[name] = None\n"
    assert doctor("app:wrapped", code=code + doctor.app).code == 0


def test_a_callback_that_hangs_is_told_with_its_line(doctor):
    """Whatever step calls it; the others are taken all the same."""
    code = doctor.app + "import time\nwrapped.version_callback(lambda _root: time.sleep(600))\n"
    done = doctor("app:wrapped", "--json", "--timeout", "0.5", code=code)
    assert done.code == 1
    assert "version_json" in done.red
    assert "it was at app.py:14 in <lambda>" in done["version_json"]["message"]
    assert done["summary"]["status"] == "ok"


def test_a_callback_that_exits_does_not_end_the_doctor(doctor):
    """It would look as if all were well."""
    code = doctor.app + "import sys\nwrapped.version_callback(lambda _root: sys.exit(0))\n"
    done = doctor("app:wrapped", "--json", code=code)
    assert done.code == 1
    assert done["version_json"]["message"] == "app.py:14: SystemExit: 0"
    assert [probe["name"] for probe in done.report["probes"]] == PROBES


def test_an_app_that_ends_the_process_is_told_with_its_line(doctor):
    """Though nothing can catch that; a child of its own may end."""
    child = "import os\nif not os.fork(): os._exit(0)\nos.wait()\n"
    assert doctor("app:wrapped", "--json", code=child + doctor.app).red == []
    done = doctor("app:wrapped", "--json", code=f"{child}os._exit(0)\n")
    assert (done.code, done.red) == (1, ["import"])
    assert done["import"]["message"].startswith("the process ended with exit code 0 (os._exit()")


@pytest.mark.parametrize("is_json", [True, False])
def test_a_check_that_ends_the_process_is_told_with_its_line(doctor, is_json):
    """It ends the step of the heartbeat; what was found before is reported."""
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


@pytest.mark.parametrize(
    "value", ["s = []\nfor _ in range(600): s = [s]\n", "s = float('nan')\n", "s = b'x'\n"]
)
def test_the_report_is_json_whatever_it_holds(doctor, value):
    """Whatever the version object holds."""
    code = doctor.app + value
    code += "keys = ('source', 'version', 'commit', 'build')\n"
    code += "wrapped.version_callback(lambda _root: dict.fromkeys(keys, s))\n"
    done = doctor("app:wrapped", "--json", code=code)
    report = json.loads(done.out, parse_constant=pytest.fail)
    assert [probe["name"] for probe in report["probes"]] == PROBES


def test_a_proxy_is_looked_at(doctor):
    """Whatever its attributes raise."""
    code = doctor.app + "class Proxy:\n    def __init__(self): self.app = wrapped\n"
    code += "    def __getattr__(self, name): raise RuntimeError(name)\n"
    code += "    def __call__(self, *arguments): return self.app(*arguments)\nproxy = Proxy()\n"
    done = doctor("app:proxy", "--json", code=code)
    assert (done.red, done.err) == ([], "")


def test_each_line_is_shown_as_its_step_is_done(doctor):
    """A check that takes its time does not keep the others from the eye."""
    code = doctor.app + "import os, time\n@wrapped.check\ndef slow():\n"
    code += "    while not os.path.exists('gate'): time.sleep(0.01)\n"
    (doctor.directory / "app.py").write_text(code)
    command = [sys.executable, "-m", "dockerflow_wsgi", "doctor", "app:wrapped"]
    with running(command, cwd=doctor.directory) as program:
        program.wait_for("version_json")
        assert program.is_alive
        (doctor.directory / "gate").touch()
        program.wait_for("check:slow")


def test_levels_are_told_by_name(doctor):
    """As they are written."""
    assert (
        doctor("app:wrapped", "--json").report["config"]["settings"]["heartbeat_failed_level"]
        == "warning"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://ada:s3cret@host/"],
        ["app:wrapped", "http://ada:s3cret@host/"],
        ["app:wrapped", "--timeout", "http://ada:s3cret@host/"],
        ["app:wrapped", "--chdir", "/http://ada:s3cret@host/"],
        ["app:wrapped", "--skip", "password=s3cret"],
        ["--url", "http://ada:s3cret/@host"],
        ["--url", "http://host/ /?token=s3cret"],
        ["http://host/?token=s3cret"],
        ["serve", "app:wrapped", "http://ada:s3cret@host/"],
    ],
)
def test_misuse_shows_no_password(doctor, arguments):
    """A URL in the wrong place is a common one."""
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
def test_misuse_tells_what_was_expected(doctor, arguments, expected):
    """In the operator's words."""
    done = doctor(*arguments, code=doctor.app + "wrapped.check(lambda: [], name='real')\n")
    assert (done.code, done.out) == (2, "")
    assert expected in done.err


def test_a_sqlite_file_that_is_not_there_is_told_by_its_own_check(doctor):
    """With the file's path, and what makes it."""
    code = doctor.app + "from sqlalchemy import create_engine\n"
    code += "engine = create_engine('sqlite:///a.db')\n"
    code += "wrapped = DockerflowMiddleware(app, version_path='.', db=engine)\n"
    done = doctor("app:wrapped", "--json", code=code)
    probe = done["check:check_database_connected"]
    assert f"The SQLite file {doctor.directory / 'a.db'} does not exist" in probe["message"]
    assert "create the database" in probe["remedy"]


def test_the_file_of_migrations_is_not_created(doctor):
    """The database is that of the Alembic config only."""
    code = f"{doctor.app}from alembic.config import Config\nconfig = Config()\n"
    code += "config.set_main_option('sqlalchemy.url', 'sqlite:///a.db')\n"
    code += "config.set_main_option('script_location', '.')\n"
    code += "wrapped = DockerflowMiddleware(app, version_path='.', migrate=config)\n"
    assert doctor("app:wrapped", "--json", code=code).red == []
    assert not (doctor.directory / "a.db").exists()


def test_it_changes_nothing(doctor):
    """No file is created or removed, no page is requested, and no SQLite database is created."""
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


def in_terminal(directory, columns, *arguments, **environment):
    """Run the command in a terminal, and return what the screen shows."""
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


def test_a_terminal_gets_colours(doctor):
    """Green for what is well, red for what is broken."""
    shown = in_terminal(doctor.directory, 100, "app:wrapped", PORT="none")
    assert "\x1b[32mok       \x1b[0mimport " in shown
    assert "\x1b[1;31merror    \x1b[0mport " in shown


def test_no_color_is_heeded(doctor):
    """As no-color.org has it."""
    shown = in_terminal(doctor.directory, 100, "app:wrapped", NO_COLOR="1")
    assert "\nok       import " in shown
    assert "\x1b" not in shown


def test_a_narrow_terminal_is_not_overrun(doctor):
    """Only words that are longer than the column cross the edge."""
    shown = in_terminal(doctor.directory, 60, "app:wrapped", NO_COLOR="1", PORT="none")
    assert "\nerror    port                  PORT is 'none', which is not\n" in shown
    too_long = [line for line in shown.splitlines() if len(line) > 60 and "/" not in line]
    assert [line for line in too_long if not re.match(r"dockerflow-wsgi doctor", line)] == []


def test_the_app_may_ignore_sigint_and_hang(doctor):
    """Neither keeps the command from ending within its time limit."""
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)\n"
    (doctor.directory / "app.py").write_text(code)
    program = f"{sys.executable} -m dockerflow_wsgi doctor app:app --timeout 1"
    done = run(["bash", "-c", f"trap '' INT; {program} | head -1"], cwd=doctor.directory)
    assert done.stdout.startswith("dockerflow-wsgi doctor app:app")


def test_a_module_alone_means_its_application(doctor):
    """The name is gunicorn's default."""
    done = doctor("app", "--json", code=f"{doctor.app}application = wrapped\n")
    assert done.red == []
    assert done["import"]["message"].startswith("app:application is DockerflowMiddleware")


def test_misspelt_variables_are_a_warning(doctor):
    """The nearest setting is named."""
    done = doctor("app:wrapped", "--json", DOCKERFLOW_CHECK_TIMOUT="3")
    assert done.red == []
    assert done["settings"]["status"] == "warning"
    assert "DOCKERFLOW_CHECK_TIMEOUT" in done["settings"]["message"]


def test_misspelt_keys_of_flask_are_a_warning(doctor):
    """The step looks at each place that the app reads its settings from."""
    code = "from flask import Flask\nfrom dockerflow_wsgi.flask import Dockerflow\n"
    code += "shop = Flask('shop')\nDockerflow(shop)\nshop.config['DOCKERFLOW_HEARTBEET_TTL'] = 1\n"
    done = doctor("app:shop", "--json", "--skip", "version_json", code=code)
    assert done["settings"]["status"] == "warning"
    assert 'app.config["DOCKERFLOW_HEARTBEET_TTL"]' in done["settings"]["message"]
    assert done["settings"]["remedy"] == "Correct the names, or remove them"


def test_a_wsgi_app_that_was_taken_before_is_named(doctor):
    """Requests to the method of the Flask app do not reach the middleware."""
    code = "from flask import Flask\nfrom dockerflow_wsgi.flask import Dockerflow\n"
    code += "shop = Flask('shop')\ntaken = shop.wsgi_app\nDockerflow(shop)\n"
    done = doctor("app:taken", "--json", "--skip", "version_json", code=code)
    assert done.red == ["middleware"]
    assert "app.wsgi_app of the Flask app 'shop' was taken before" in done["middleware"]["message"]
    assert "Create Dockerflow(app) before" in done["middleware"]["remedy"]


def test_watch_repeats_until_interrupted(doctor):
    """The app is imported once; files are read anew; the last code is the exit code."""
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


def test_main_returns_the_exit_code():
    """``main`` of the command returns the exit code, and does not end the process."""
    code = "from dockerflow_wsgi.__main__ import main\n"
    code += 'print(main(["doctor", "no_such_module:app", "--skip", "version_json"]), "goes on")'
    assert run([sys.executable, "-c", code], check=True).stdout.endswith("1 goes on\n")
