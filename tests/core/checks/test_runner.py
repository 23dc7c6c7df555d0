"""`CheckRunner`: concurrent checks, deadlines, shared runs and logging."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from waiting import TIMEOUT_S, wait_until

from dockerflow_wsgi import CheckRegistry, checks, get_request_id, request_id_context
from dockerflow_wsgi.checks.runner import CheckRunner, report_when_overdue

DEADLINE_S = 0.2


@pytest.fixture
def registry():
    """Make a registry."""
    return CheckRegistry()


def make_runner(registry, timeout_s=TIMEOUT_S, **options):
    """Make a runner without hook, silenced messages and time to live."""
    return CheckRunner(
        registry,
        **{
            "timeout_s": timeout_s,
            "ttl_s": 0,
            "failed_level": 30,
            "silenced": (),
            "on_report": None,
            **options,
        },
    )


def run(*functions, **options):
    """Run checks once, and return the result of the first."""
    registry = CheckRegistry()
    for number, function in enumerate(functions):
        registry.check(function, name=f"check_{number}")
    return make_runner(registry, **options).report().results[0]


@pytest.fixture
def check_threads():
    """Return a function that returns the threads that run this test's checks and hooks."""
    others = threading.enumerate()

    def find():
        ours = [thread for thread in threading.enumerate() if thread not in others]
        return [thread for thread in ours if thread.name.startswith("dockerflow ")]

    return find


@pytest.fixture
def hanging(registry, check_threads):
    """Register a check that hangs until the test is over, and counts its calls."""
    release = threading.Event()
    calls = []

    @registry.check
    def hangs():
        calls.append(1)
        release.wait(TIMEOUT_S)
        return checks.Info("awake", id="a.I1")

    hangs.calls = calls
    hangs.release = release
    yield hangs
    release.set()
    for thread in check_threads():
        thread.join()


@pytest.fixture
def overdue(registry, hanging):
    """Make the hanging check overdue for every runner of the registry."""
    make_runner(registry, timeout_s=0.01).report()
    return hanging


W1 = checks.Warning("one", id="a.W1")
W2 = checks.Warning("two", id="a.W2")


async def a_coroutine():
    """Wait a little, as an async check does."""
    await asyncio.sleep(0)
    return [W1]


async def an_async_generator():
    """Yield two messages, one after the other."""
    yield W1
    await asyncio.sleep(0)
    yield W2


def a_generator():
    """Yield two messages."""
    yield W1
    yield W2


class Unshowable:
    """An object whose ``__str__`` raises."""

    def __str__(self):
        raise RuntimeError("no")


class TestResults:
    """A check returns messages in any form, or raises."""

    @pytest.mark.parametrize(
        ("check", "messages"),
        [
            (lambda: [W1, W2], (W1, W2)),
            (lambda: (W1,), (W1,)),
            (lambda: {W1}, (W1,)),
            (lambda: [], ()),
            (lambda: None, ()),
            (lambda: W1, (W1,)),
            (a_generator, (W1, W2)),
            (a_coroutine, (W1,)),
            (an_async_generator, (W1, W2)),
        ],
    )
    @pytest.mark.parametrize("timeout_s", [TIMEOUT_S, None])
    def test_each_form_of_a_result_is_accepted(self, check, messages, timeout_s):
        """A list, another iterable, one message and ``None`` are accepted, plain and async."""
        result = run(check, timeout_s=timeout_s)
        assert result.messages == messages
        assert result.duration_s >= 0

    def test_a_generator_that_raises_half_way_keeps_what_it_found(self):
        """Messages that a generator yields before it raises are reported with E001."""

        def fails():
            yield W1
            raise ValueError("lost")

        result = run(fails)
        assert [message.id for message in result.messages] == ["a.W1", "dockerflow.checks.E001"]

    @pytest.mark.parametrize(
        ("returned", "shown"),
        [
            ("all is well", "str 'all is well'"),
            (True, "bool 'True'"),
            ({"status": "ok"}, "dict \"{'status': 'ok'}\""),
            ([W1, 5], "int '5'"),
            (b"x", "bytes \"b'x'\""),
            (["redis://:pw@h"], "str 'redis://:***@h'"),
            (Unshowable(), "Unshowable '<Unshowable that cannot be shown>'"),
        ],
    )
    def test_an_object_that_is_not_a_message_is_an_error(self, returned, shown):
        """E003 has the returned object and the expected ones; other messages stay."""
        message = run(lambda: returned).messages[-1]
        assert message.id == "dockerflow.checks.E003"
        assert message.level == checks.ERROR
        assert "return a list of Debug, " in message.msg
        assert message.msg.endswith(f"It returned {shown}")

    def test_an_endless_generator_ends_at_1000_messages(self):
        """A check ends after 1,000 messages, and does not fill the memory."""

        def endless():
            while True:
                yield W1

        async def endless_async():
            while True:
                yield W1

        for check in (endless, endless_async):
            assert len(run(check).messages) == 1000

    def test_texts_become_strings_without_credentials(self):
        """The objects in a message become strings, and their credentials are redacted."""
        found = run(lambda: checks.Error(OSError("redis://:pw@h"), hint=5, id=7)).messages[0]
        assert (found.msg, found.hint, found.id) == ("redis://:***@h", "5", "7")

    def test_a_users_message_class_is_accepted(self):
        """A subclass of a message class may have another ``__init__``."""

        class Full(checks.Critical):
            def __init__(self, disk):
                super().__init__(f"{disk} is full", id="a.C1")

        (message,) = run(lambda: Full("/dev/sda")).messages
        assert (message.msg, message.level) == ("/dev/sda is full", 50)

    def test_a_message_without_a_level_is_an_error_of_its_check(self):
        """A message class whose ``__post_init__`` loses the level gives E001."""

        @dataclass(frozen=True)
        class Own(checks.Critical):
            def __post_init__(self):
                pass

        assert [message.id for message in run(lambda: Own("x")).messages] == [
            "dockerflow.checks.E001"
        ]

    def test_a_huge_text_is_shortened_between_words(self):
        """A text has at most 4,000 characters, and never ends within a URL."""
        text = "word " * 700 + "redis://:s3cr3t" + "x" * 20_000 + "@h"
        for long in (text, "x" * 5000, text.replace(" ", "\n")):
            found = run(lambda long=long: checks.Error(long, hint=long)).messages[0]
            assert len(found.msg) <= 4000
            assert found.msg.endswith(f"... ({len(long)} characters)")
            assert "s3cr3t" not in found.msg + found.hint

    def test_messages_of_one_id_are_all_reported(self):
        """Further messages with the same ID are reported under numbered keys."""
        taken = checks.Info("literally", id="a.W1 #2")
        result = run(lambda: [W1, taken, W1, W1])
        assert list(result.keyed_messages()) == ["a.W1", "a.W1 #2", "a.W1 #3", "a.W1 #4"]


class TestExceptions:
    """An exception of a check is a message, and never more."""

    @pytest.mark.parametrize("error", [ValueError("lost"), SystemExit("lost")])
    @pytest.mark.parametrize("timeout_s", [TIMEOUT_S, None])
    def test_a_check_that_raises_is_an_error(self, listen, error, timeout_s):
        """E001 has the class and the text of the exception; the log has its traceback."""
        log = listen("dockerflow_wsgi.checks")

        def fails():
            raise error

        (message,) = run(fails, timeout_s=timeout_s).messages
        assert message == checks.Error(f"{type(error).__name__}: lost", id="dockerflow.checks.E001")
        assert log[0].getMessage() == f"dockerflow.checks.E001: {type(error).__name__}: lost"
        assert log[0].levelno == logging.ERROR
        assert "in fails" in log[0].exc_text

    def test_a_check_on_a_thread_of_its_own_may_raise_anything(self):
        """KeyboardInterrupt in the thread of a check is E001."""

        def fails():
            raise KeyboardInterrupt

        (message,) = run(fails).messages
        assert message.msg == "KeyboardInterrupt: KeyboardInterrupt"

    def test_in_line_the_servers_own_signals_pass(self):
        """KeyboardInterrupt during a check in the request's thread reaches the server."""

        def interrupted():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(interrupted, timeout_s=None)

    def test_a_silenced_exception_has_no_traceback_in_the_log(self, listen):
        """If E001 is silenced, other messages are logged without its traceback."""
        log = listen("dockerflow_wsgi.checks")

        def fails():
            yield W1
            raise ValueError

        run(fails, silenced=["dockerflow.checks.E001"])
        assert [record.exc_text for record in log] == [None]


class TestConcurrency:
    """All checks run at the same time, each at most once at a time."""

    def test_checks_run_concurrently(self):
        """Five checks that wait for each other all end."""
        together = threading.Barrier(5, timeout=TIMEOUT_S)
        result = run(*[lambda: [together.wait()][1:]] * 5)
        assert result.messages == ()

    def test_the_heartbeat_takes_as_long_as_the_slowest_check(self, registry):
        """Twenty checks of 200 ms take much less time than one after the other."""
        for number in range(20):
            registry.check(lambda: time.sleep(0.2), name=f"slow_{number}")  # the check's own work
        started_s = time.monotonic()
        report = make_runner(registry).report()
        assert report.status == "ok"
        assert 0.2 <= time.monotonic() - started_s < 2

    @pytest.mark.parametrize("timeout_s", [TIMEOUT_S, None])
    def test_a_check_may_register_another_one(self, registry, timeout_s):
        """A check that is registered by a running check is run by the next heartbeat."""

        @registry.check
        def registers():
            registry.check(list, name="new")

        runner = make_runner(registry, timeout_s)
        assert runner.report().checks == {"registers": "ok"}
        assert runner.report().checks == {"registers": "ok", "new": "ok"}

    def test_in_line_checks_run_one_after_the_other_on_the_same_thread(self, registry):
        """Without a deadline, the checks run in the caller's thread in their order."""
        seen = []
        registry.check(lambda: seen.append(threading.get_ident()), name="one")
        registry.check(lambda: seen.append(threading.get_ident()), name="two")
        make_runner(registry, timeout_s=None).report()
        assert seen == [threading.get_ident()] * 2

    def test_a_check_in_line_that_asks_for_its_own_heartbeat_is_an_error(self, registry):
        """A check that would wait for itself without a deadline gives E001."""
        runner = make_runner(registry, timeout_s=None)
        registry.check(lambda: runner.report() and None, name="asks")
        (message,) = runner.report().results[0].messages
        assert message.msg == "RuntimeError: a check cannot wait for its own heartbeat"

    @pytest.mark.filterwarnings("ignore:There is no current event loop")
    def test_an_async_check_in_line_leaves_the_apps_event_loop(self):
        """An async check in the request's thread does not touch the thread's event loop."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            assert run(a_coroutine, timeout_s=None).messages == (W1,)
            assert asyncio.get_event_loop() is loop

            async def within():
                return run(a_coroutine, timeout_s=None).messages

            assert loop.run_until_complete(within()) == (W1,)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def test_without_a_thread_a_check_is_not_run(self, registry, monkeypatch):
        """When no thread can be started, E002 reports it, and the next heartbeat tries again."""
        calls = []

        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        @registry.check
        async def waits():
            calls.append(1)

        registry.check(lambda: calls.append(1), name="plain")
        runner = make_runner(registry)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            report = runner.report()
        for result in report.results:
            (message,) = result.messages
            assert message.id == "dockerflow.checks.E002"
            assert message.msg == "NoThreadError: the check was not run: can't start new thread"
        assert calls == []
        assert runner.report().status == "ok"
        assert calls == [1, 1]


class TestDeadlines:
    """The deadline belongs to the run, not to the prober."""

    def test_a_hanging_check_is_answered_at_the_deadline(self, registry, hanging, check_threads):
        """Each heartbeat has E002, one thread is used, and the check recovers when it returns."""
        registry.check(list, name="fine")
        runner = make_runner(registry, timeout_s=DEADLINE_S)
        first = runner.report()
        assert first.checks == {"hangs": "error", "fine": "ok"}
        assert first.results[0].messages[0].id == "dockerflow.checks.E002"
        assert "timed out: it is still running after " in first.results[0].messages[0].msg
        assert DEADLINE_S / 2 < first.results[0].duration_s < TIMEOUT_S
        for _ in range(3):
            again = runner.report().results[0].messages[0]
            assert " UTC" in again.msg
        assert hanging.calls == [1]
        assert [thread.name for thread in check_threads()] == ["dockerflow hangs"]
        hanging.release.set()
        while runner.report().status == "error":
            pass
        assert runner.report().results[0].messages[0].id == "a.I1"

    def test_a_prober_that_joins_waits_until_the_runs_deadline(self, registry, hanging):
        """A prober whose own timeout is longer waits only for the deadline of the run it joins."""
        first = threading.Thread(target=make_runner(registry, timeout_s=DEADLINE_S).report)
        first.start()
        wait_until(lambda: hanging.calls)
        started_s = time.monotonic()
        assert make_runner(registry).report().status == "error"
        assert time.monotonic() - started_s < TIMEOUT_S
        first.join()
        assert hanging.calls == [1]

    def test_while_a_check_is_overdue_heartbeats_do_not_wait(self, registry, overdue):
        """Once a check is known to hang, its timeout is reported without waiting."""
        registry.check(list, name="fine")
        runner = make_runner(registry)
        started_s = time.monotonic()
        wait_until(lambda: runner.report().checks == {"hangs": "error", "fine": "ok"})
        reports = [runner.report() for _ in range(5)]
        assert time.monotonic() - started_s < TIMEOUT_S
        assert [report.checks for report in reports] == [{"hangs": "error", "fine": "ok"}] * 5

    def test_while_a_check_is_overdue_slow_checks_show_their_last_result(self, registry, overdue):
        """While a check hangs, a slow one shows its last result until its run is over."""
        found, go_on = [W1], threading.Event()

        @registry.check
        def slow():
            result = list(found)
            go_on.wait(TIMEOUT_S)
            return result

        go_on.set()
        runner = make_runner(registry)
        wait_until(lambda: runner.report().results[1].messages == (W1,))
        found[:] = [W2]
        go_on.clear()
        assert runner.report().results[1].messages == (W1,)
        go_on.set()
        wait_until(lambda: runner.report().results[1].messages == (W2,))
        assert overdue.calls == [1]

    def test_a_check_without_a_result_is_not_waited_for(self, registry, overdue):
        """A new check that is slow while another one is overdue is reported as running."""
        runner = make_runner(registry)
        release = threading.Event()
        registry.check(lambda: [release.wait(TIMEOUT_S)][1:], name="new")
        (message,) = runner.report().results[1].messages
        assert message.id == "dockerflow.checks.E002"
        release.set()
        wait_until(lambda: runner.report().checks["new"] == "ok")

    def test_a_check_that_is_always_too_slow_is_waited_for_once(
        self, registry, overdue, check_threads
    ):
        """A check that takes longer than its deadline each time does not hold up every run."""
        runner = make_runner(registry)
        runner.report()
        overdue.release.set()
        for thread in check_threads():
            thread.join()
        overdue.release.clear()
        started_s = time.monotonic()
        (_, message) = runner.report().results[0].messages
        assert time.monotonic() - started_s < TIMEOUT_S
        assert message.id == "dockerflow.checks.E002"
        assert "longer than its deadline" in message.msg
        assert overdue.calls == [1, 1]

    def test_a_check_recovers(self, registry, overdue, check_threads):
        """A check that hung is ok as soon as it returns."""
        runner = make_runner(registry)
        assert runner.report().status == "error"
        overdue.release.set()
        for thread in check_threads():
            thread.join()
        wait_until(lambda: runner.report().checks == {"hangs": "info"})

    def test_a_waiting_check_reports_what_it_waits_for(self, registry, check_threads):
        """Messages of `report_when_overdue` replace the timeout, the innermost first."""
        release = threading.Event()

        def fail():
            raise RuntimeError

        @registry.check
        def waits():
            with (
                report_when_overdue(lambda: [W1]),
                report_when_overdue(
                    lambda: [checks.Error("pool of redis://:pw@h is busy", id="a.E1")]
                ),
            ):
                pass
            with report_when_overdue(lambda: [W1]), report_when_overdue(lambda: [W2]):
                release.wait(TIMEOUT_S)

        @registry.check
        def masked():
            with report_when_overdue(lambda: [checks.Error("redis://:pw@h is busy", id="a.E1")]):
                release.wait(TIMEOUT_S)

        @registry.check
        def broken():
            with report_when_overdue(fail):
                release.wait(TIMEOUT_S)

        report = make_runner(registry, timeout_s=DEADLINE_S).report()
        release.set()
        waiting, redacted, failed = (result.messages for result in report.results)
        assert waiting == (W2,)
        assert redacted[0].msg == "redis://:***@h is busy"
        assert failed[0].id == "dockerflow.checks.E002"

    def test_outside_a_check_report_when_overdue_does_nothing(self):
        """A built-in check can be called directly."""
        with report_when_overdue(list):
            pass


class TestSharedRuns:
    """Probers that ask at the same time share one run of the checks."""

    def test_simultaneous_heartbeats_share_a_run(self, registry):
        """Of 200 simultaneous probers, only the first of each run starts the check."""
        running = []
        overlaps = []

        @registry.check
        def slow():
            running.append(1)
            overlaps.append(len(running))
            time.sleep(0.3)  # the check's own work
            running.pop()

        received = []
        runner = make_runner(registry, on_report=received.append)
        together = threading.Barrier(200, timeout=TIMEOUT_S)

        def probe(_number):
            together.wait()  # however long the threads take to start on a busy machine
            return runner.report()

        with ThreadPoolExecutor(200) as pool:
            reports = list(pool.map(probe, range(200)))
        assert {report.status for report in reports} == {"ok"}
        assert max(overlaps) == 1
        assert len(overlaps) < 10
        assert len(received) == len(overlaps), "the hook is called once per run, not per prober"

    def test_a_run_is_logged_and_reported_to_the_hook_once(self, registry, listen):
        """Fifty probers share a run: there is one traceback and one call of the hook."""
        log = listen("dockerflow_wsgi.checks")
        received, calls = [], []
        release = threading.Event()

        @registry.check
        def fails():
            calls.append(1)
            raise ValueError("lost")

        @registry.check
        def slow():
            release.wait(TIMEOUT_S)

        runner = make_runner(registry, on_report=received.append)
        with ThreadPoolExecutor(50) as pool:
            first = pool.submit(runner.report)
            wait_until(lambda: calls)
            others = [pool.submit(runner.report) for _ in range(49)]
            time.sleep(0.2)  # the others join
            release.set()
            reports = {future.result() for future in (first, *others)}
        assert {report.status for report in reports} == {"error"}
        assert [record.exc_text.count("Traceback") for record in log] == [1]
        assert len(received) == len(calls) == 1

    def test_a_hung_run_is_logged_once(self, registry, hanging, listen):
        """Heartbeats that report the same run again do not log it again."""
        log = listen("dockerflow_wsgi.checks")
        runner = make_runner(registry, timeout_s=0.01)
        for _ in range(5):
            runner.report()
        assert [record.getMessage().partition(": ")[0] for record in log] == [
            "dockerflow.checks.E002"
        ]

    def test_a_check_that_asks_for_its_own_heartbeat_misses_the_deadline(self, registry):
        """The check waits for the heartbeat that waits for it, and both end at the deadline."""
        received = []
        runner = make_runner(registry, timeout_s=DEADLINE_S, on_report=received.append)
        inner = []
        registry.check(lambda: inner.append(runner.report()), name="asks")
        report = runner.report()
        assert report.results[0].messages[0].id == "dockerflow.checks.E002"
        wait_until(lambda: inner == [report])
        assert received == [report]

    def test_many_probers_are_answered_within_one_deadline(self, registry, hanging):
        """Hundreds of simultaneous heartbeats share one deadline."""
        runner = make_runner(registry, timeout_s=DEADLINE_S)
        started_s = time.monotonic()
        with ThreadPoolExecutor(300) as pool:
            reports = list(pool.map(lambda _number: runner.report(), range(300)))
        assert {report.status for report in reports} == {"error"}
        assert time.monotonic() - started_s < 300 * DEADLINE_S / 2
        assert hanging.calls == [1]

    def test_middlewares_that_share_a_registry_share_runs(self, registry, overdue):
        """A check that another middleware has started is not started again."""
        make_runner(registry).report()
        assert overdue.calls == [1]


class TestTimeToLive:
    """A report is served again while it is young enough."""

    def test_a_report_is_served_again_within_its_time_to_live(self, registry, monkeypatch):
        """After the time to live, the checks run again, and the hook is called again."""
        calls = []
        reports = []
        registry.check(lambda: calls.append(1), name="counted")
        runner = make_runner(registry, ttl_s=10, on_report=reports.append)
        first = runner.report()
        assert runner.report() is first
        now = time.monotonic()
        monkeypatch.setattr("dockerflow_wsgi.checks.runner.time.monotonic", lambda: now + 11)
        assert runner.report() is not first
        assert calls == [1, 1]
        assert len(reports) == 2, "the hook is called for each run, not for each answer"

    def test_the_age_of_a_result_counts_from_when_it_was_asked_for(self, registry, monkeypatch):
        """The time to live begins at the start of the heartbeat."""
        clock_s = [1000.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock_s[0])

        @registry.check
        def slow():
            clock_s[0] += 8

        runner = make_runner(registry, timeout_s=None, ttl_s=10)
        first = runner.report()
        clock_s[0] += 1
        assert runner.report() is first
        clock_s[0] += 2
        assert runner.report() is not first

    def test_registering_a_check_drops_the_result(self, registry):
        """A heartbeat after the registration of a check runs that check."""
        runner = make_runner(registry, ttl_s=1000)
        assert runner.report().checks == {}
        registry.check(list, name="new")
        assert runner.report().checks == {"new": "ok"}

    def test_the_wall_clock_does_not_matter(self, registry, monkeypatch):
        """Deadline, durations and time to live follow the monotonic clock."""
        jumps = iter(range(0, 10**12, 10**9))
        monkeypatch.setattr(time, "time", lambda: next(jumps))
        monkeypatch.setattr(time, "time_ns", lambda: next(jumps) * 10**9)
        calls = []
        registry.check(lambda: calls.append(1), name="counted")
        runner = make_runner(registry, ttl_s=1000)
        first = runner.report()
        assert runner.report() is first
        assert calls == [1]
        assert first.results[0].duration_s < TIMEOUT_S


class TestLogging:
    """Messages are logged once, at their own level."""

    def test_messages_are_logged_at_their_own_level(self, listen):
        """A message is logged as ``ID: message``, with the field ``check``."""
        log = listen("dockerflow_wsgi.checks")
        run(lambda: [W1, checks.Critical("gone"), checks.Debug("seen", id="a.D1")])
        assert [(record.levelno, record.getMessage()) for record in log] == [
            (30, "a.W1: one"),
            (50, "check_0: gone"),
            (10, "a.D1: seen"),
        ]
        assert {record.check for record in log} == {"check_0"}

    def test_silenced_messages_neither_count_nor_are_logged(self, listen):
        """Messages are silenced by their ID, or by the check's name if they have no ID."""
        log = listen("dockerflow_wsgi.checks")
        check = lambda: [W1, checks.Critical("gone"), checks.Info("seen", id="a.I1")]  # noqa: E731
        result = run(check, silenced=["a.W1", "check_0"])
        assert result.status == "info"
        assert [record.getMessage() for record in log] == ["a.I1: seen"]

    def test_a_log_handler_that_raises_does_not_fail_the_heartbeat(self, listen):
        """If a log handler raises, the report is returned, and the exception is logged."""
        faults = listen("dockerflow_wsgi")

        class Full(logging.Handler):
            def handle(self, record):
                raise OSError("log disk full")

        handler = Full()
        logger = logging.getLogger("dockerflow_wsgi.checks")
        logger.addHandler(handler)
        logger.propagate = False
        try:
            assert run(lambda: W1).status == "warning"
        finally:
            logger.removeHandler(handler)
            logger.propagate = True
        assert "log disk full" in faults[0].exc_text

    def test_the_request_id_is_visible_in_a_check(self):
        """A check sees the request ID of the heartbeat."""
        with request_id_context("r-1"):
            message = run(lambda: checks.Info(get_request_id())).messages[0]
        assert message.msg == "r-1"


class TestContexts:
    """Each check runs within the context manager of its app."""

    def test_checks_of_another_context_are_other_runs(self, registry, overdue):
        """A check that hangs in the context of one app is started in that of another app."""
        entered = []

        @contextlib.contextmanager
        def context():
            entered.append(1)
            yield

        make_runner(registry, timeout_s=DEADLINE_S, context=context).report()
        assert overdue.calls == [1, 1]
        assert entered == [1]

    def test_a_method_is_one_context(self, registry, hanging):
        """Two middlewares with the same method of an object share the run of a check."""

        class App:
            def context(self):
                return contextlib.nullcontext()

        app = App()
        for _ in range(2):
            make_runner(registry, timeout_s=0.01, context=app.context).report()
        assert hanging.calls == [1]

    @pytest.mark.parametrize("timeout_s", [TIMEOUT_S, None])
    def test_a_context_gives_back_what_a_check_keeps_in_a_thread_local(self, registry, timeout_s):
        """The context is entered and left on the thread of the check, as peewee's pool needs."""
        local, pool = threading.local(), ["connection"]

        @contextlib.contextmanager
        def context():
            local.connection = pool.pop()
            try:
                yield
            finally:
                pool.append(local.connection)

        registry.check(lambda: checks.Info(local.connection), name="reads")
        runner = make_runner(registry, timeout_s, context=context)
        for _ in range(3):
            assert runner.report().results[0].messages == (checks.Info("connection"),)
        assert pool == ["connection"]

    def test_a_context_that_cannot_be_entered_is_an_error_of_the_check(self, registry):
        """An exception on entering the context is E001 of the check."""

        def broken():
            raise RuntimeError("no app")

        registry.check(list, name="one")
        (result,) = make_runner(registry, context=broken).report().results
        assert [message.msg for message in result.messages] == ["RuntimeError: no app"]

    @pytest.mark.parametrize("timeout_s", [TIMEOUT_S, None])
    def test_a_context_that_exits_is_an_error_of_the_check(self, registry, timeout_s):
        """A ``SystemExit`` on leaving the context is E001, and does not end the server."""

        @contextlib.contextmanager
        def exits():
            yield
            raise SystemExit(3)

        registry.check(list, name="one")
        (result,) = make_runner(registry, timeout_s, context=exits).report().results
        assert [message.msg for message in result.messages] == ["SystemExit: 3"]

    def test_a_context_that_cannot_be_left_does_not_change_the_result(self, registry, listen):
        """An exception on leaving the context is logged."""
        log = listen("dockerflow_wsgi")

        @contextlib.contextmanager
        def broken():
            yield
            raise RuntimeError("no app")

        registry.check(list, name="one")
        assert make_runner(registry, context=broken).report().status == "ok"
        assert "no app" in log[0].exc_text

    @pytest.mark.parametrize("timeout_s", [TIMEOUT_S, None])
    @pytest.mark.parametrize("suppresses", [True, False])
    def test_a_context_sees_the_exception_of_its_check(self, registry, timeout_s, suppresses):
        """A context manager can roll back after an exception, but cannot hide it."""
        seen = []

        @contextlib.contextmanager
        def transaction():
            try:
                yield
            except ValueError as error:
                seen.append(str(error))
                if not suppresses:
                    raise

        @registry.check
        def fails():
            raise ValueError("lost")

        runner = make_runner(registry, timeout_s, context=transaction)
        assert [message.msg for message in runner.report().results[0].messages] == [
            "ValueError: lost"
        ]
        assert seen == ["lost"]

    def test_a_context_need_not_be_hashable(self, registry, overdue):
        """Runners with the same unhashable context share a run."""

        @dataclass
        class Context:
            entered: int = 0

            def __call__(self):
                self.entered += 1
                return contextlib.nullcontext()

        context = Context()
        runners = [make_runner(registry, timeout_s=DEADLINE_S, context=context) for _ in range(2)]
        for runner in runners:
            assert runner.report().status == "error"
        assert context.entered == 1
        assert overdue.calls == [1, 1]


class TestHook:
    """The hook is called with each report, and cannot harm the heartbeat."""

    def test_a_hook_that_hangs_keeps_four_threads(self, registry, listen, check_threads):
        """A hanging hook delays one heartbeat, keeps four threads at most, and is logged."""
        log = listen("dockerflow_wsgi.checks")
        release = threading.Event()
        hook = lambda _report: release.wait(TIMEOUT_S)  # noqa: E731
        runner = make_runner(registry, timeout_s=0.5, on_report=hook)
        started_s = time.monotonic()
        for _ in range(12):
            assert runner.report().status == "ok"
        assert time.monotonic() - started_s < 4 * 0.5, "only the first call is waited for"
        assert len(check_threads()) == 4
        release.set()
        for thread in check_threads():
            thread.join()
        assert [record.getMessage() for record in log] == [
            "on_heartbeat is not called: 4 calls are running"
        ] * 8

    def test_a_slow_hook_is_hardly_waited_for_while_a_check_is_overdue(self, registry, overdue):
        """A hook does not delay a heartbeat until the deadline that a hanging check has missed."""
        release = threading.Event()
        runner = make_runner(registry, on_report=lambda _report: release.wait(TIMEOUT_S))
        started_s = time.monotonic()
        runner.report()
        assert time.monotonic() - started_s < TIMEOUT_S / 2
        release.set()

    @pytest.mark.parametrize("timeout_s", [TIMEOUT_S, None])
    def test_the_result_of_a_hook_does_not_matter(self, registry, listen, timeout_s):
        """A hook may return anything, such as the return value of the last function it calls."""
        log = listen("dockerflow_wsgi")
        assert make_runner(registry, timeout_s, on_report=lambda _report: 5).report().status == "ok"
        assert list(log) == []

    def test_a_hook_without_a_thread_is_not_called(self, registry, listen, monkeypatch):
        """When no thread can be started for the hook, an error is logged."""
        log = listen("dockerflow_wsgi.checks")
        reports = []

        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert make_runner(registry, on_report=reports.append).report().status == "ok"
        assert reports == []
        assert "can't start new thread" in log[0].getMessage()

    def test_a_hook_in_line_is_called_on_the_same_thread(self, registry, listen):
        """Without a deadline, the hook is called before the response; its exceptions are logged."""
        log = listen("dockerflow_wsgi")
        reports = []

        def hook(report):
            reports.append((report, threading.current_thread()))
            raise ValueError("broken hook")

        report = make_runner(registry, timeout_s=None, on_report=hook).report()
        assert reports == [(report, threading.current_thread())]
        (record,) = log
        assert record.getMessage().startswith("on_heartbeat raised")
        assert "broken hook" in record.exc_text
