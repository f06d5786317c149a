"""Whether the states move as the actions say."""

from vla_data.core.findings import Finding
from vla_data.dynamics.check import check_dynamics
from vla_data.dynamics.report import Dimension, DynamicsReport

__all__ = ["Dimension", "DynamicsReport", "Finding", "check_dynamics"]
