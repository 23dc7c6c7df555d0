"""The current user of Flask-Login, without loading one."""

from __future__ import annotations

from contextvars import ContextVar

# Flask-Login has no public way to ask whether a user is loaded. It sends the signal user_accessed
# before it loads one; a receiver that raises an exception prevents the loading.
_is_loading_refused: ContextVar[bool] = ContextVar("dockerflow_wsgi.user", default=False)


def loaded_user_id() -> str | None:
    """Return the ID of the authenticated user that Flask-Login has loaded in this request."""
    from flask_login import current_user, user_accessed  # noqa: PLC0415 - optional

    user_accessed.connect(_refuse_to_load)
    token = _is_loading_refused.set(True)
    try:
        is_authenticated = getattr(current_user, "is_authenticated", True)
        if callable(is_authenticated):
            is_authenticated = is_authenticated()
    except Exception:  # noqa: BLE001 - no user is loaded, or the user's class is broken
        return None
    finally:
        _is_loading_refused.reset(token)
    user_id = current_user.get_id() if is_authenticated else None
    return None if user_id is None else str(user_id)


def _refuse_to_load(_sender: object, **_extra: object) -> None:
    if _is_loading_refused.get():
        raise LookupError("no user is loaded")
