"""A summary's line is the same with and without a record, and nobody is passed over."""

from __future__ import annotations

import io
import json
import logging
import os
import sys

import pytest
import wrapt
from programs import run
from wsgi import hello, make_environ, request

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogFormatter, MozlogHandler, RequestIdLogFilter
from dockerflow_wsgi.only_listener import find_only_listener

summary_logger = logging.getLogger("request.summary")


@pytest.fixture(autouse=True)
def only_us():
    """Let nothing listen but what the test adds; pytest's own handlers are on the root logger."""
    level, root = summary_logger.level, summary_logger.parent
    summary_logger.setLevel(logging.DEBUG)
    summary_logger.parent = None  # to a logger that does not propagate, pytest adds handlers too
    yield
    summary_logger.setLevel(level)
    summary_logger.parent = root
    summary_logger.handlers.clear()
    summary_logger.filters.clear()
    summary_logger.disabled = False


@pytest.fixture
def stream():
    """Make a stream for the only handler."""
    return io.StringIO()


@pytest.fixture
def handler(stream):
    """Add the only handler."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(MozlogFormatter())
    summary_logger.addHandler(handler)
    return handler


class Recorder(logging.Handler):
    """Keeps records, and formats none."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        """Keep a record."""
        self.records.append(record)


def is_found(level=logging.INFO):
    """Tell whether summaries are written without a record."""
    return find_only_listener(summary_logger, level) is not None


def lines_of(app, path, stream, **keys):
    """Ask an app, with the handler alone and beside another; return what was written."""
    assert is_found()
    request(app, path, HTTP_X_REQUEST_ID="r-1", **keys)
    recorder = Recorder()
    summary_logger.addHandler(recorder)
    assert not is_found()
    request(app, path, HTTP_X_REQUEST_ID="r-1", **keys)
    summary_logger.removeHandler(recorder)
    assert len(recorder.records) == 1
    return stream.getvalue().splitlines()


def without_times(line):
    """Return a line but for what differs from one request to the next."""
    parsed = json.loads(line)
    assert isinstance(parsed.pop("Timestamp"), int)
    assert isinstance(parsed["Fields"].pop("t"), int)
    return json.dumps(parsed)  # in the order of the line


def app_answering(status, **items):
    """Make an app that answers, and puts items into its summary."""

    def app(environ, start_response):
        environ["dockerflow.summary"].update(items)
        start_response(status, [("Content-Type", "text/plain")])
        return [b""]

    return app


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"HTTP_USER_AGENT": 'a "b" \\ \t\x00\x7f', "HTTP_ACCEPT_LANGUAGE": "de, \xe9"},
        {"HTTP_USER_AGENT": "\ud800 \u2028 </script>", "HTTP_ACCEPT_LANGUAGE": "\U0001f600"},
        {"QUERY_STRING": "a=1", "HTTP_REFERER": "x"},
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/caf\u00c3\u00a9", "/\u00ff", '/"\\\n', "/__heartbeat__", ""]
)
def test_the_line_is_that_of_a_record(stream, handler, path, keys):
    """Whatever the client sends."""
    lines = lines_of(DockerflowMiddleware(hello), path, stream, **keys)
    without, with_record = map(without_times, lines)
    assert without == with_record


@pytest.mark.parametrize("status", ["200 OK", "200 ", "404 Not Found", "503 Off", "299 \xe9"])
@pytest.mark.parametrize(
    "items", [{}, {"uid": "u-1"}, {"uid": ""}, {"uid": "\ud800"}, {"uid": None}, {"uid": 7}]
)
def test_the_line_is_that_of_a_record_for_any_answer(stream, handler, status, items):
    """Statuses that are errors or lack a reason, users that are no text."""
    app = DockerflowMiddleware(app_answering(status, **items))
    without, with_record = map(without_times, lines_of(app, "/", stream))
    assert without == with_record


def test_an_app_that_clears_its_environ_gets_its_line(stream, handler):
    """Nothing of ours is left in it then."""

    def app(environ, start_response):
        environ.clear()
        return hello(environ, start_response)

    without, with_record = map(without_times, lines_of(DockerflowMiddleware(app), "/", stream))
    assert without == with_record
    assert json.loads(without)["Fields"]["code"] == 200


def test_a_server_that_refuses_a_probes_answer_gets_its_line(stream, handler):
    """Though such a probe has no summary of its own to fill."""
    summary_logger.setLevel(logging.INFO)

    def refuse(*_start):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        DockerflowMiddleware(hello)(make_environ("/__lbheartbeat__"), refuse)
    assert json.loads(stream.getvalue())["Fields"]["msg"] == "gone"


@pytest.mark.parametrize(
    "items",
    [{"errno": 7}, {"a": 1}, {"msg": "said"}, {"uid": "u", "name": "n"}, {"rid": "other"}],
)
def test_what_the_app_adds_is_in_the_line(stream, handler, items):
    """With one listener as with two."""
    app = DockerflowMiddleware(app_answering("200 OK", **items))
    without, with_record = map(without_times, lines_of(app, "/", stream))
    assert without == with_record
    name, value = next(iter(items.items()))
    assert json.loads(without)["Fields"][name] == value


@pytest.mark.parametrize(
    "options",
    [{"summary_log_querystring": True}, {"summary_extra": lambda environ: {"extra": environ["X"]}}],
)
def test_what_settings_add_is_in_the_line(stream, handler, options):
    """The query string, and the hook's fields."""
    app = DockerflowMiddleware(hello, **options)
    lines = lines_of(app, "/", stream, X="1", QUERY_STRING="a=1")
    without, with_record = map(without_times, lines)
    assert without == with_record
    assert {"querystring": "a=1", "extra": "1"}.items() & json.loads(without)["Fields"].items()


@pytest.mark.parametrize("status", [None, "200 OK"])
def test_what_an_app_raises_is_in_the_line(stream, handler, status):
    """As an ERROR with the exception's text, also after a response was started."""

    def app(_environ, start_response):
        if status:
            start_response(status, [("Content-Type", "text/plain")])
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        request(DockerflowMiddleware(app))
    line = json.loads(stream.getvalue())
    assert (line["Severity"], line["Fields"]["msg"], line["Fields"]["errno"]) == (3, "broken", 500)


class OwnStatus(str):
    """A text that is equal to another and not the same."""

    __slots__ = ("code",)

    def __getitem__(self, place):
        return self.code


def test_a_status_of_an_apps_own_kind_is_not_taken_for_an_equal_one(stream, handler):
    """As the codes of statuses are remembered."""
    for code in ("200", "503"):
        status = OwnStatus("200 OK")
        status.code = code
        app = DockerflowMiddleware(lambda _, start_response: start_response(status, []) and [])  # noqa: B023
        app(make_environ(), lambda *_start: None).close()
    codes = [json.loads(line)["Fields"]["code"] for line in stream.getvalue().splitlines()]
    assert codes == [200, 503]


@pytest.mark.parametrize("key", ["HTTP_USER_AGENT", "HTTP_ACCEPT_LANGUAGE"])
@pytest.mark.parametrize("value", [None, 7, b"bytes", ["list"]])
def test_an_environ_with_more_than_text_makes_the_same_line(stream, handler, key, value):
    """Such as one that a test made by hand."""
    app = DockerflowMiddleware(hello)
    for add in (lambda: None, lambda: summary_logger.addHandler(Recorder())):
        add()
        environ = {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "HTTP_X_REQUEST_ID": "r", key: value}
        app(environ, lambda *_start: None).close()
    without, with_record = map(without_times, stream.getvalue().splitlines())
    assert without == with_record


def test_the_handler_of_an_ancestor_is_found(stream):
    """As most set-ups have it: one handler, on the root logger."""
    own = MozlogHandler(stream, name="mine")
    own.addFilter(RequestIdLogFilter())
    summary_logger.parent = logging.Logger("root")  # noqa: LOG001 - one of our own
    summary_logger.parent.addHandler(own)
    without, with_record = map(without_times, lines_of(DockerflowMiddleware(hello), "/", stream))
    assert without == with_record
    assert json.loads(without)["Logger"] == "mine"


def test_an_ancestor_beyond_one_that_does_not_propagate_is_none(stream, handler, monkeypatch):
    """It gets no records, and so does not stand in the way."""
    summary_logger.parent = logging.Logger("root")  # noqa: LOG001 - one of our own
    summary_logger.parent.addHandler(recorder := Recorder())
    assert not is_found()
    monkeypatch.setattr(summary_logger, "propagate", False)
    assert is_found()
    request(DockerflowMiddleware(hello))
    assert (len(stream.getvalue().splitlines()), recorder.records) == (1, [])


def test_one_line_for_each_request_of_many_threads(stream, handler):
    """The handler's lock keeps lines apart."""
    from concurrent.futures import ThreadPoolExecutor

    app = DockerflowMiddleware(hello)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: request(app), range(400)))
    rids = {json.loads(line)["Fields"]["rid"] for line in stream.getvalue().splitlines()}
    assert len(rids) == 400


def test_a_line_is_written_under_the_handlers_lock(handler):
    """So that a handler whose stream is being changed is waited for."""
    held = []

    class Stream(io.StringIO):
        def write(self, text):
            held.append(handler.lock._is_owned())
            return super().write(text)

    handler.setStream(Stream())
    request(DockerflowMiddleware(hello))
    assert held == [True]


def test_a_child_writes_its_own_pid(stream, handler):
    """Though its parent has written lines before the fork."""
    app = DockerflowMiddleware(hello)
    request(app)
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        request(app)
        os.write(sender, stream.getvalue().encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, encoding="utf-8") as pipe:
        pids = [json.loads(line)["Pid"] for line in pipe]
    os.waitpid(child, 0)
    assert pids == [os.getpid(), child]


@pytest.mark.parametrize("add", ["logger", "handler"])
def test_a_filter_sees_each_record(stream, handler, add):
    """And may refuse it."""
    seen = []
    target = summary_logger if add == "logger" else handler
    refuse = lambda record: seen.append(record.getMessage())  # noqa: E731 - returns None
    target.addFilter(refuse)
    try:
        request(DockerflowMiddleware(hello))
    finally:
        target.removeFilter(refuse)
    assert (seen, stream.getvalue()) == ([""], "")


class OwnFormatter(MozlogFormatter):
    """Adds something."""

    def convert_record(self, record):
        """Add it."""
        return {**super().convert_record(record), "own": 1}


class OwnHandler(MozlogHandler):
    """Adds something."""

    def format(self, record):
        """Add it."""
        return super().format(record).replace("{", '{"own": 1, ', 1)


class OwnFilter(RequestIdLogFilter):
    """Adds something."""

    def filter(self, record):
        """Add it."""
        record.own = 1
        return super().filter(record)


def own_method(target, name):
    """Put a function in the place of a method of one object, and return it."""
    method = getattr(target, name)
    setattr(target, name, lambda record: (setattr(record, "own", 1), method(record))[1])
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda handler: handler.setFormatter(OwnFormatter()),
        lambda handler: handler.addFilter(OwnFilter()),
        lambda handler: [handler.addFilter(one) for one in (RequestIdLogFilter(), OwnFilter())],
        lambda handler: handler.addFilter(own_method(RequestIdLogFilter(), "filter")),
        lambda handler: own_method(handler, "handle"),
        lambda handler: own_method(handler, "emit"),
        lambda handler: own_method(handler, "format"),
        lambda handler: own_method(handler.formatter, "format"),
        lambda handler: own_method(handler.formatter, "convert_record"),
    ],
)
def test_a_handler_of_ones_own_gets_the_record(stream, handler, change):
    """In whatever way it was made one's own."""
    change(handler)
    request(DockerflowMiddleware(hello))
    line = json.loads(stream.getvalue())
    assert line.get("own") or line["Fields"]["own"]


def test_a_handler_class_of_ones_own_gets_the_record(stream):
    """Such as one that writes elsewhere."""
    summary_logger.addHandler(OwnHandler(stream))
    request(DockerflowMiddleware(hello))
    assert json.loads(stream.getvalue())["own"] == 1


@pytest.mark.parametrize("name", ["handle", "callHandlers"])
def test_a_method_of_the_logger_that_was_replaced_gets_the_record(
    handler, stream, monkeypatch, name
):
    """As `unittest.mock.patch.object` does."""
    seen = []
    monkeypatch.setitem(vars(summary_logger), name, seen.append)
    request(DockerflowMiddleware(hello))
    assert [record.name for record in seen] == ["request.summary"]
    assert not stream.getvalue()


def plainly(part, tell):
    """Wrap a function as most do."""

    def wrapper(*arguments):
        tell()
        return part(*arguments)

    return wrapper


def by_wrapt(part, tell):
    """Wrap a function as ddtrace and New Relic do: what is made is equal to the function."""

    def wrapper(wrapped, _instance, arguments, keywords):
        tell()
        return wrapped(*arguments, **keywords)

    return wrapt.FunctionWrapper(part, wrapper)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (logging, "_logRecordFactory"),
        (logging.LogRecord, "__init__"),
        (logging.LogRecord, "getMessage"),
        (logging.Logger, "makeRecord"),
        (logging.Logger, "handle"),
        (logging.Logger, "filter"),
        (logging.Logger, "callHandlers"),
        (logging.StreamHandler, "handle"),
        (logging.StreamHandler, "filter"),
        (logging.StreamHandler, "emit"),
        (logging.StreamHandler, "format"),
        (logging.StreamHandler, "flush"),
        (RequestIdLogFilter, "filter"),
        (MozlogFormatter, "format"),
        (MozlogFormatter, "convert_record"),
    ],
)
@pytest.mark.parametrize("wrap", [plainly, by_wrapt])
def test_a_library_that_replaces_a_part_of_logging_sees_the_record(
    handler, stream, monkeypatch, owner, name, wrap
):
    """As tracers and error reporters do; and its absence is noticed, too."""
    seen = []
    handler.addFilter(RequestIdLogFilter())
    app = DockerflowMiddleware(hello)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, wrap(getattr(owner, name), lambda: seen.append(name)))
        request(app)
    assert seen == [name]
    request(app)
    assert seen == [name]
    assert len(stream.getvalue().splitlines()) == 2
    assert is_found()


@pytest.mark.parametrize(
    "patch",
    [
        "part = logging.Logger.callHandlers\n"
        "logging.Logger.callHandlers = lambda *args: seen.append(1) or part(*args)",
        "import wrapt\nwrapt.wrap_function_wrapper('logging', 'Logger.callHandlers',\n"
        "    lambda part, logger, args, keywords: seen.append(1) or part(*args))",
        "make = logging.getLogRecordFactory()\n"
        "logging.setLogRecordFactory(lambda *args, **more: seen.append(1) or make(*args, **more))",
    ],
)
def test_a_library_that_came_before_us_sees_the_record(patch):
    """It may have been set up before we are imported."""
    code = f"""
import json, logging, sys
seen = []
{patch}
from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogHandler
logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)
app = DockerflowMiddleware(lambda environ, start_response: start_response("200 OK", []) or [])
seen.clear()
app({{"PATH_INFO": "/", "REQUEST_METHOD": "GET"}}, lambda *start: None).close()
sys.exit(len(seen))
"""
    done = run([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["Type"] == "request.summary"


def test_a_handler_above_the_level_writes_nothing(handler, stream):
    """As `logging` has it."""
    handler.setLevel(logging.WARNING)
    request(DockerflowMiddleware(hello))
    request(DockerflowMiddleware(app_answering("500 No")))
    assert not stream.getvalue()


def test_a_logger_class_of_ones_own_gets_the_record():
    """Set before anything has a logger."""
    code = """
import io, logging
class Own(logging.Logger):
    def filter(self, record):
        print(record.name)
        return super().filter(record)
logging.setLoggerClass(Own)
from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogHandler
logging.basicConfig(handlers=[MozlogHandler(io.StringIO())], level=logging.INFO)
app = DockerflowMiddleware(lambda environ, start_response: start_response("200 OK", []) or [])
app({"PATH_INFO": "/", "REQUEST_METHOD": "GET"}, lambda *start: None).close()
"""
    done = run([sys.executable, "-c", code], check=True)
    assert (done.stdout, done.stderr) == ("request.summary\n", "")


@pytest.mark.parametrize("name", [7, None, "\ud800"])
def test_a_project_name_that_is_no_text_makes_the_same_line(stream, handler, name):
    """It may be changed at any time."""
    handler.formatter.logger_name = name
    lines = lines_of(DockerflowMiddleware(hello), "/", stream)
    without, with_record = map(without_times, lines)
    assert without == with_record


@pytest.mark.parametrize("status", ["", "abc", "2", None])
def test_a_status_that_is_none_makes_the_same_line(stream, handler, status):
    """From an app that breaks PEP 3333, in a server that lets it."""
    app = DockerflowMiddleware(app_answering(status))
    for listeners in ([], [Recorder()]):
        summary_logger.handlers.extend(listeners)
        app(make_environ(HTTP_X_REQUEST_ID="r"), lambda *_start: None).close()
    without, with_record = map(without_times, stream.getvalue().splitlines())
    assert without == with_record


class Summary(dict):
    """A summary that is more than its items."""

    def items(self):
        """Say more."""
        return [*super().items(), ("more", 1)]


def test_a_summary_of_the_apps_own_kind_is_asked_for_its_items(stream, handler):
    """The app may put any mapping in place of ours."""

    def app(environ, start_response):
        environ["dockerflow.summary"] = Summary(uid="u-1")
        return hello(environ, start_response)

    request(DockerflowMiddleware(app))
    assert json.loads(stream.getvalue())["Fields"]["more"] == 1


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there logging needs the lock")
def test_a_handler_without_a_lock_writes_its_line(handler, stream):
    """As `logging` allows, for programs of one thread."""
    handler.lock = None
    request(DockerflowMiddleware(hello))
    assert json.loads(stream.getvalue())["Type"] == "request.summary"


@pytest.mark.parametrize("switch", ["logger", "all"])
def test_logging_that_is_switched_off_writes_nothing(handler, stream, switch):
    """The logger, or everything."""
    if switch == "logger":
        summary_logger.disabled = True
    else:
        logging.disable(logging.CRITICAL)
    try:
        request(DockerflowMiddleware(hello))
    finally:
        logging.disable(logging.NOTSET)
    assert not stream.getvalue()


@pytest.mark.parametrize("raise_exceptions", [True, False])
def test_a_stream_that_fails_is_told_of_as_logging_does(
    handler, capsys, monkeypatch, raise_exceptions
):
    """On standard error, or not at all; the response is unharmed."""
    monkeypatch.setattr(logging, "raiseExceptions", raise_exceptions)
    closed = io.StringIO()
    closed.close()
    handler.setStream(closed)
    assert request(DockerflowMiddleware(hello)).body == b"hello"
    told = capsys.readouterr().err
    if raise_exceptions:
        assert told.startswith("--- Logging error ---")
        assert "I/O operation on closed file" in told
    else:
        assert told == ""


def test_a_stream_without_flush_is_written_to(handler, capsys):
    """`logging` asks no more of a stream than ``write``."""

    class Stream:
        text = ""

        def write(self, text):
            self.text += text

    stream = Stream()
    handler.stream = stream
    request(DockerflowMiddleware(hello))
    assert json.loads(stream.text)["Type"] == "request.summary"
    assert capsys.readouterr().err == ""


def test_the_terminator_is_the_handlers(handler, stream, monkeypatch):
    """Whatever the class says."""
    monkeypatch.setattr(logging.StreamHandler, "terminator", "\r\n")
    request(DockerflowMiddleware(hello))
    assert stream.getvalue().endswith("}\r\n")
