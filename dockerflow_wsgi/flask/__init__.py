"""The Flask extension."""

from . import checks, signals
from .app import Dockerflow, HeartbeatFailure

__all__ = ["Dockerflow", "HeartbeatFailure", "checks", "signals"]
