"""The test client of apps with the extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import require_extra

with require_extra("flask"):
    from flask.testing import FlaskClient

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

_WITHOUT_BODY = (204, 304)


def closing_client_class(base: type[FlaskClient] | None = None) -> type[FlaskClient]:
    """Make a test client class that reads and closes responses, as a server does.

    The summary of a request is then logged before the client's method returns. Responses without a
    known length are streams: the test must read or close them.
    """
    base_class: Any = base or FlaskClient

    class ClosingClient(base_class):  # type: ignore[misc]
        """A test client that reads and closes responses with a known length."""

        def open(self, *arguments: Any, **keywords: Any) -> TestResponse:
            """Send a request."""
            response: TestResponse = super().open(*arguments, **keywords)
            if response.content_length is not None or response.status_code in _WITHOUT_BODY:
                response.get_data()
                response.close()
            return response

    return ClosingClient
