"""Calls a check, and makes messages of whatever comes of it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import call_safely, format_traceback
from ..redaction import format_error, redact, safe_str, truncate
from .ids import ERROR_CHECK_RAISED, ERROR_CHECK_RETURNED_NO_MESSAGE
from .messages import CheckMessage, Error

if TYPE_CHECKING:
    CheckContext: TypeAlias = Callable[[], AbstractContextManager[object]]

_MAX_MESSAGES = 1000
_MAX_SHOWN = 200  # characters of a value that is no message


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of calling a check.

    Attributes:
        messages: Its messages, with credentials redacted.
        traceback: Of what it raised; ``None`` if it did not. (The exception itself would keep
            what the check held in its hands, a connection for instance.)
    """

    messages: tuple[CheckMessage, ...]
    traceback: str | None = None

    def counted(self, name: str, silenced: Collection[str]) -> tuple[CheckMessage, ...]:
        """Return the messages that are not silenced.

        Args:
            name: The check's name, under which a message without an ID goes.
            silenced: IDs of messages that do not count.
        """
        return tuple(m for m in self.messages if (m.id or name) not in silenced)


def call_check(
    function: Callable[[], Any], context: CheckContext, survives: type[BaseException]
) -> Outcome:
    """Call a check.

    Args:
        function: The check; plain, a generator, or either of them ``async``.
        context: Makes the context manager that the check runs in.
        survives: What it may raise without ending its caller. On a thread of its own that
            is everything; in line the server's own signals must pass.

    Returns:
        Its messages so far. One more says that it raised, and one for each thing it
        returned that is no message says so.
    """
    messages: list[CheckMessage] = []
    try:
        with _entered(context):
            for item in _items(function()):
                if len(messages) == _MAX_MESSAGES:
                    messages.append(_no_message(f"more than {_MAX_MESSAGES} messages"))
                    break
                messages.append(_message(item))
    except (Exception, survives) as error:  # noqa: BLE001 - it is what the report is about
        text = f"{type(error).__name__}: {format_error(error)}"
        messages.append(Error(text, id=ERROR_CHECK_RAISED))
        return Outcome(tuple(messages), format_traceback(error))
    return Outcome(tuple(messages))


@contextmanager
def _entered(context: CheckContext) -> Iterator[None]:
    """Run in a context; what its end raises is no finding of the check."""
    stack = ExitStack()
    stack.enter_context(context())
    try:
        yield
    finally:
        call_safely("Leaving the context of a check", stack.close, default=None)


def _items(returned: Any) -> Iterator[object]:
    if inspect.isawaitable(returned) or inspect.isasyncgen(returned):
        from .coroutine import run_coroutine  # with asyncio, which takes 20 ms to import

        returned = run_coroutine(_awaited(returned))
    if returned is None:
        return
    if isinstance(returned, Iterable) and not isinstance(returned, (str, bytes, dict)):
        yield from returned
    else:
        yield returned


async def _awaited(returned: Any) -> Any:
    if inspect.isasyncgen(returned):
        return [item async for item in returned]
    return await returned


def _message(item: object) -> CheckMessage:
    if isinstance(item, CheckMessage):
        return _cleaned(item)
    return _no_message(f"{_shown(item)}, which is no CheckMessage")


def _no_message(returned: str) -> Error:
    return Error(
        f"The check returned {returned}: return a list of Debug, Info, Warning, Error or "
        "Critical, empty if all is well",
        id=ERROR_CHECK_RETURNED_NO_MESSAGE,
    )


def _cleaned(message: CheckMessage) -> CheckMessage:
    """Copy a message with its texts made real text, without credentials."""
    clean = copy.copy(message)  # not replace(): a subclass may have another __init__
    level = message.default_level if message.level is None else int(message.level)
    object.__setattr__(clean, "level", level)
    for name in ("msg", "hint", "id"):
        value = getattr(message, name)
        if value is not None:
            object.__setattr__(clean, name, redact(truncate(safe_str(value))))
    return clean


def _shown(item: object) -> str:
    try:
        text = repr(item)
    except Exception:  # noqa: BLE001 - the object is the user's
        return f"a {type(item).__name__} that cannot be shown"
    text = redact(truncate(text))
    short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return f"{short} ({type(item).__name__})"
