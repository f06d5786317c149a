"""What actions mean, and the same actions by another convention."""

from vla_data.actions.convention import UNDECLARED, Controller, Convention, resolve
from vla_data.actions.convert import convert
from vla_data.actions.presets import PRESETS, preset
from vla_data.actions.units import gripper_opening
from vla_data.dynamics.check import check_dynamics
from vla_data.dynamics.report import Dimension, DynamicsReport, Finding

__all__ = [
    "PRESETS",
    "UNDECLARED",
    "Controller",
    "Convention",
    "Dimension",
    "DynamicsReport",
    "Finding",
    "check_dynamics",
    "convert",
    "gripper_opening",
    "preset",
    "resolve",
]
