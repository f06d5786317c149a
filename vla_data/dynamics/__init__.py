"""Whether the states move as the actions say."""

from vla_data.dynamics.check import check_dynamics
from vla_data.dynamics.report import Dimension, DynamicsReport, Finding

__all__ = ["Dimension", "DynamicsReport", "Finding", "check_dynamics"]
