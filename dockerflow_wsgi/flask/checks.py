"""The names of `dockerflow_wsgi.checks`, as in ``dockerflow.flask.checks``."""

from __future__ import annotations

from ..checks import *  # noqa: F403
from ..checks import __all__  # noqa: F401 - for "import *"
