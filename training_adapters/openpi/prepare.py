"""What openpi needs beside its code: v2.1 below ``HF_LEROBOT_HOME``, ``norm_stats.json``, a configuration.

openpi (15a9616) finds a dataset by its ``repo_id`` below ``HF_LEROBOT_HOME`` alone, and its lerobot reads v2.1.
The configuration is registered by a file of ours that then runs openpi's own ``scripts/train.py``, so that nothing
of openpi is edited.

**Deltas.** openpi can subtract the state from the actions of a chunk (``DeltaActions``). Whether that is right
follows from the declared conventions alone: elements of absolute actions, joints or translations, whose state is
absolute, in the same place, unit and frame. Deltas are never made of deltas, nor of rotations, whose difference is
no rotation, nor of grippers; and not where nothing is declared, which is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from vla_data.core import Feature, Json
from vla_data.preparing import Extras, Prepared
from vla_data.statistics.make import make
from vla_data.statistics.trainers import writer

FORMAT: Final = "lerobot"
NEEDS_GATE: Final = False
HORIZON: Final = 50
SLOTS: Final = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
_ALIKE: Final = {"joints": ("joint_unit",), "translation": ("translation_unit", "frame")}


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`."""
    del name
    return {**given, "version": "v2.1"}


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return f"lerobot/local/{name}"


def delta_mask(action: Feature, state: Feature) -> tuple[tuple[bool, ...], str]:
    """For each element of an action, whether the policy predicts it relative to the state; and why."""
    size = action.shape[0]
    ours, theirs = action.convention, state.convention
    kind = ours.get("kind", "undeclared")
    if kind != "absolute":
        why = "actions are deltas already" if kind in ("delta", "velocity") else "nobody declared what actions are"
        return (), f"{why}: openpi subtracts no state (--declare action:kind=... says it)"
    mask = [False] * size
    for part, places in (ours.get("layout") or {}).items():
        keys = _ALIKE.get(part.rpartition("_")[2])
        same = keys is not None and all(
            ours.get(key, "undeclared") == theirs.get(key, "undeclared") != "undeclared" for key in keys
        )
        there = list((theirs.get("layout") or {}).get(part, ())) == list(places)
        if same and there and theirs.get("kind") == "absolute":
            for i in places:
                mask[i] = True
    if not any(mask):
        return (), "no part of the action has a state in the same place, unit and frame: no state is subtracted"
    chosen = ", ".join(str(i) for i, on in enumerate(mask) if on)
    return tuple(mask), f"openpi predicts elements {chosen} of the absolute action relative to the state"


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    action, state = prepared.feature("action"), prepared.feature("observation.state")
    mask, why = delta_mask(action, state)
    horizon = int(prepared.options.get("action_horizon") or HORIZON)
    made = make({prepared.name: prepared.source}, writer("openpi", action_horizon=horizon, delta_actions=mask))
    repo = f"local/{prepared.name}"
    files = {
        f"assets/{prepared.name}/{repo}/norm_stats.json": made.text,
        f"openpi_{prepared.name}.py": config(prepared, mask, horizon),
        "openpi_train.py": _TRAIN.replace("NAME", prepared.name),
    }
    cameras = prepared.cameras[: len(SLOTS)]
    facts = [why, *(f"{slot} is {camera}" for slot, camera in zip(SLOTS, cameras, strict=False))]
    return Extras(
        files=files,
        command=[
            "cd openpi",
            f"HF_LEROBOT_HOME={prepared.word('lerobot')} uv run {prepared.word('openpi_train.py')} "
            f"{prepared.name} --exp-name=first",
        ],
        facts=[*facts, *(finding.message for finding in made.findings)],
    )


def config(prepared: Prepared, mask: tuple[bool, ...], horizon: int) -> str:
    """A Python module that registers a ``TrainConfig``.

    Its classes are in a module of their own, since openpi's loader hands them to processes that import them.
    """
    cameras: dict[str, Json] = dict.fromkeys(SLOTS)
    cameras |= dict(zip(SLOTS, prepared.cameras, strict=False))
    repack = {f"observation/{slot}": camera for slot, camera in cameras.items() if camera}
    repack |= {"observation/state": "observation.state", "actions": "action", "prompt": "prompt"}
    facts = {
        "NAME": prepared.name,
        "REPO_ID": f"local/{prepared.name}",
        "REPACK": repack,
        "CAMERAS": [slot for slot, camera in cameras.items() if camera],
        "ACTION_DIM": prepared.feature("action").shape[0],
        "ACTION_HORIZON": horizon,
        "DELTA_MASK": list(mask),
    }
    told = "\n".join(f"{key} = {_literal(value)}" for key, value in facts.items())
    return _TEMPLATE.replace("# FACTS", told)


def _literal(value: Json) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "}"
    return repr(value)


_TEMPLATE: Final = '''\
"""openpi's configuration of one dataset; importing this registers it. Made by vla-data."""

import dataclasses
import pathlib

import einops
import numpy as np
import openpi.models.model as _model
import openpi.models.pi0_config as pi0_config
import openpi.training.config as _config
import openpi.training.weight_loaders as weight_loaders
import openpi.transforms as transforms

HERE = pathlib.Path(__file__).resolve().parent
# FACTS
SLOTS = ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]


def _image(image):
    """(H, W, 3) uint8; LeRobot gives (3, H, W) float32 of 0 to 1."""
    image = np.asarray(image)
    if np.issubdtype(image.dtype, np.floating):
        image = np.round(255 * image).astype(np.uint8)
    return einops.rearrange(image, "c h w -> h w c") if image.shape[0] == 3 else image


@dataclasses.dataclass(frozen=True)
class Inputs(transforms.DataTransformFn):
    model_type: _model.ModelType

    def __call__(self, data):
        images = {slot: _image(data[f"observation/{slot}"]) for slot in CAMERAS}
        empty = np.zeros_like(next(iter(images.values())))
        fast = self.model_type == _model.ModelType.PI0_FAST  # which masks no image
        inputs = {
            "state": np.asarray(data["observation/state"]),
            "image": {slot: images.get(slot, empty) for slot in SLOTS},
            "image_mask": {slot: np.bool_(fast or slot in images) for slot in SLOTS},
        }
        return inputs | {key: data[key] for key in ("actions", "prompt") if key in data}


@dataclasses.dataclass(frozen=True)
class Outputs(transforms.DataTransformFn):
    def __call__(self, data):
        return {"actions": np.asarray(data["actions"][..., :ACTION_DIM])}


@dataclasses.dataclass(frozen=True)
class DataConfig(_config.DataConfigFactory):
    def create(self, assets_dirs, model_config):
        data = transforms.Group(inputs=[Inputs(model_type=model_config.model_type)], outputs=[Outputs()])
        if any(DELTA_MASK):
            data = data.push(
                inputs=[transforms.DeltaActions(tuple(DELTA_MASK))],
                outputs=[transforms.AbsoluteActions(tuple(DELTA_MASK))],
            )
        return dataclasses.replace(
            self.create_base_config(assets_dirs, model_config),
            repack_transforms=transforms.Group(inputs=[transforms.RepackTransform(REPACK)]),
            data_transforms=data,
            model_transforms=_config.ModelTransformFactory()(model_config),
        )


CONFIG = _config.TrainConfig(
    name=NAME,
    model=pi0_config.Pi0Config(pi05=True, action_horizon=ACTION_HORIZON),
    data=DataConfig(
        repo_id=REPO_ID,
        assets=_config.AssetsConfig(assets_dir=str(HERE / "assets" / NAME), asset_id=REPO_ID),
        base_config=_config.DataConfig(prompt_from_task=True, action_sequence_keys=("action",)),
    ),
    weight_loader=weight_loaders.CheckpointWeightLoader("gs://openpi-assets/checkpoints/pi05_base/params"),
    num_train_steps=30_000,
)
_config._CONFIGS.append(CONFIG)
_config._CONFIGS_DICT[NAME] = CONFIG
'''

_TRAIN: Final = '''\
"""Registers openpi_NAME.py and runs openpi's scripts/train.py, from openpi's folder. Made by vla-data."""

import pathlib
import runpy
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import openpi_NAME

if __name__ == "__main__":
    runpy.run_path("scripts/train.py", run_name="__main__")
'''
