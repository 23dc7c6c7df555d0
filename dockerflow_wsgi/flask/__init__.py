"""The Flask extension: `Dockerflow`, its signals and its checks."""

from . import checks, signals
from .app import Dockerflow, HeartbeatFailure

__all__ = ["Dockerflow", "HeartbeatFailure", "checks", "signals"]
