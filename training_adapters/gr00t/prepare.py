"""What GR00T needs beside its code: v2.1 with videos, ``meta/modality.json``, its statistics, a configuration.

GR00T (NVIDIA/Isaac-GR00T, ``getting_started``) reads frames from mp4 files alone, so cameras become video. The
configuration of the new embodiment names the parts that ``meta/modality.json`` has: parts of absolute joint
actions with a state of the same name are predicted relative to it, everything else as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from converters.lerobot import modality
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.media.video_settings import VideoSettings
from vla_data.preparing import Extras, Prepared
from vla_data.safety import strict_json
from vla_data.statistics.make import make
from vla_data.statistics.trainers import writer

FORMAT: Final = "lerobot"
NEEDS_GATE: Final = False
HORIZON: Final = 16
_H264: Final = VideoSettings(codec="h264", crf=18)


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`."""
    del name
    return {"version": "v2.1", "video": given.get("video") or _H264}


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return name


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    parts = strict_json.read(prepared.made / modality.FILE, root=prepared.made)
    for kind, column in (("state", "observation.state"), ("action", "action"), ("video", "observation.images.*")):
        if not parts.get(kind):
            raise UsageError(
                "E206", f"GR00T needs {column}, which the dataset does not have; --rename gives names"
            )
    horizon = int(prepared.options.get("action_horizon") or HORIZON)
    made = make({prepared.name: prepared.source}, writer("gr00t"))
    relative = [name for name in parts["action"] if _is_relative(name, parts)]
    files = {
        f"{prepared.name}/meta/stats.json": made.text,
        "gr00t_config.py": config(parts, relative, horizon),
    }
    told = ", ".join(relative) or "none"
    return Extras(
        files=files,
        command=[
            "cd Isaac-GR00T",
            "uv run python gr00t/experiment/launch_finetune.py --base-model-path nvidia/GR00T-N1.7-3B "
            f"--dataset-path {prepared.word(place(prepared.name))} --embodiment-tag NEW_EMBODIMENT "
            f"--modality-config-path {prepared.word('gr00t_config.py')} --num-gpus 1 "
            f"--output-dir {prepared.word('train')}",
        ],
        facts=[
            f"actions that are predicted relative to the state: {told}",
            "meta/stats.json was added to the dataset, whose own SHA256SUMS does not list it",
            *(finding.message for finding in made.findings),
        ],
    )


def _is_relative(name: str, parts: Mapping[str, Any]) -> bool:
    """Whether a part of the action is absolute joints, and the state has the same part."""
    action, state = parts["action"][name], parts["state"].get(name)
    return (
        state is not None
        and name.rpartition("_")[2] == "joints"
        and action.get("absolute") is True
        and state.get("absolute") is True
        and action["end"] - action["start"] == state["end"] - state["start"]
    )


def config(parts: Mapping[str, Any], relative: list[str], horizon: int) -> str:
    """A Python file that registers the modality configuration."""
    keys: dict[str, Json] = {kind: list(parts[kind]) for kind in ("video", "state", "action")}
    return _TEMPLATE.format(
        video=json.dumps(keys["video"]),
        state=json.dumps(keys["state"]),
        action=json.dumps(keys["action"]),
        relative=json.dumps(relative),
        horizon=horizon,
    )


_TEMPLATE: Final = '''\
"""GR00T's configuration of a dataset: the parts of its meta/modality.json. Made by vla-data."""

from gr00t.configs.data.embodiment_configs import register_modality_config
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.types import ActionConfig, ActionFormat, ActionRepresentation, ActionType, ModalityConfig

VIDEO = {video}
STATE = {state}
ACTION = {action}
RELATIVE = {relative}


def _action(name):
    rep = ActionRepresentation.RELATIVE if name in RELATIVE else ActionRepresentation.ABSOLUTE
    return ActionConfig(rep=rep, type=ActionType.NON_EEF, format=ActionFormat.DEFAULT)


register_modality_config(
    {{
        "video": ModalityConfig(delta_indices=[0], modality_keys=VIDEO),
        "state": ModalityConfig(delta_indices=[0], modality_keys=STATE),
        "action": ModalityConfig(
            delta_indices=list(range({horizon})),
            modality_keys=ACTION,
            action_configs=[_action(name) for name in ACTION],
        ),
        "language": ModalityConfig(
            delta_indices=[0], modality_keys=["annotation.human.task_description"]
        ),
    }},
    embodiment_tag=EmbodimentTag.NEW_EMBODIMENT,
)
'''
