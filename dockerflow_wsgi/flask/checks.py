"""The names of `dockerflow_wsgi.checks`, where code written for ``dockerflow.flask`` looks."""

from __future__ import annotations

from ..checks import *  # noqa: F403
from ..checks import __all__  # noqa: F401 - for those who import * from here
