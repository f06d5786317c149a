"""Curation steps, one per file. A step is a frozen dataclass whose fields are its provenance."""

from vla_data.steps.actions import ConvertActions
from vla_data.steps.choose import Choose
from vla_data.steps.features import Declare, Fill, Rename, SelectFeatures
from vla_data.steps.gripper import gripper_events
from vla_data.steps.join import Join
from vla_data.steps.length import Length
from vla_data.steps.resample import Resample
from vla_data.steps.rl4vla import Rl4vlaCompat
from vla_data.steps.small_actions import SmallActions
from vla_data.steps.success import CutAfterSuccess, RequireSuccess, SuccessRule, success_end
from vla_data.steps.trim import Trim

__all__ = [
    "Choose",
    "ConvertActions",
    "CutAfterSuccess",
    "Declare",
    "Fill",
    "Join",
    "Length",
    "Rename",
    "RequireSuccess",
    "Resample",
    "Rl4vlaCompat",
    "SelectFeatures",
    "SmallActions",
    "SuccessRule",
    "Trim",
    "gripper_events",
    "success_end",
]
