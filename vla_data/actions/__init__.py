"""What actions mean, and the same actions by another convention."""

from vla_data import former_names
from vla_data.actions.convention import UNDECLARED, Controller, Convention, resolve
from vla_data.actions.convert import convert
from vla_data.actions.presets import PRESETS, preset
from vla_data.actions.units import gripper_opening

__all__ = [
    "PRESETS",
    "UNDECLARED",
    "Controller",
    "Convention",
    "convert",
    "gripper_opening",
    "preset",
    "resolve",
]


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
