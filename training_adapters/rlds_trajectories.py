"""Trajectories of an RLDS dataset as dlimp gives them to OpenVLA's and Octo's loaders, through stock TFDS.

A trajectory is a nested dictionary of arrays with ``T`` rows, images still encoded. Source of the rules:
kvablack/dlimp ``dataset.py``; openvla ``prismatic/vla/datasets/rlds/dataset.py``; octo ``octo/data/dataset.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.rlds.features import leaves
from converters.rlds.files import read_json
from training_adapters.quiet_tensorflow import tf, tfds
from vla_data.core import Array, Json
from vla_data.errors import UsageError, VerifyError
from vla_data.files.folders import FEATURES, version_folders
from vla_data.safety.text import show


@dataclass(frozen=True)
class Opened:
    """A dataset, opened by TFDS.

    Attributes:
        name: as the loaders' tables would have to know it.
        cameras: keys of RGB images in ``observation``, the most primary first.
        depth: keys of depth images.
        splits: name -> episodes.
        reader: which split the loaders train on, and the builder.
    """

    name: str
    cameras: tuple[str, ...]
    depth: tuple[str, ...]
    splits: Mapping[str, int]
    builder: Any
    observation: Any

    def episodes(self) -> Iterator[Mapping[str, Any]]:
        """All episodes of all splits, images encoded."""
        images = {key: tfds.decode.SkipDecoding() for key in (*self.cameras, *self.depth)}
        for split in self.splits:
            decoders = {"steps": {"observation": images}}
            for episode in self.builder.as_dataset(split=split, decoders=decoders):
                steps = list(tfds.as_numpy(episode["steps"]))
                if steps:
                    yield _stacked(steps)

    def pixels(self, camera: str, data: bytes) -> Array:
        """One image of a camera."""
        image: Array = self.observation[camera].decode_example(data)
        return np.asarray(image)


def open_builder(folder: Path) -> Any:
    """TFDS's builder of a dataset of anybody. TFDS imports whatever class ``features.json`` names, so only a file
    that names classes of TFDS that we know is given to it.

    Raises:
        UsageError: E121 or E141, as `converters.rlds.features.leaves`.
    """
    for _ in leaves(read_json(folder, FEATURES)):
        pass
    return tfds.builder_from_directory(str(folder))


def open_rlds(folder: Path, reader: str) -> Opened:
    """Open the dataset at ``folder`` or the only one below it.

    Raises:
        VerifyError: E601, TFDS can't open it or it has not what ``reader`` needs at all.
    """
    found = version_folders(folder)[0]
    if len(found) != 1:
        raise VerifyError("E601", f"{reader} reads RLDS; there are {len(found)} such datasets at {show(folder)}")
    try:
        builder = open_builder(found[0])
    except UsageError as error:
        raise VerifyError("E601", f"TFDS may not open it: {error}") from None
    except Exception as error:  # it is somebody else's, and fails in many ways
        raise VerifyError("E601", f"TFDS can't open it: {_reason(error)}") from None
    features = builder.info.features
    try:
        step = features["steps"].feature
        observation, action = step["observation"], step["action"]
    except (KeyError, TypeError, AttributeError):
        raise VerifyError("E601", f"{reader} needs steps with observation and action") from None
    if not hasattr(action, "shape") or len(action.shape) != 1:
        raise VerifyError("E601", f"{reader} needs one action vector a step, not {show(action)}")
    state = dict(observation.items()).get("state")
    for path, feature in (("action", action), ("observation/state", state)):
        if isinstance(feature, tfds.features.Tensor) and feature.get_serialized_info().np_dtype == np.object_:
            kind = np.dtype(feature.np_dtype)
            raise VerifyError(
                "E601",
                f"{reader} gets bytes where {path} has {kind} numbers, because dlimp does not decode tensors; "
                "write it with --float32",
            )
    images = {k: f for k, f in observation.items() if isinstance(f, tfds.features.Image)}
    depth = tuple(k for k, f in images.items() if f.shape[-1] == 1)
    cameras = tuple(sorted((k for k in images if k not in depth), key=_rank))
    if not cameras:
        raise VerifyError("E601", f"{reader} needs an image in observation; there is {', '.join(observation)}")
    if "language_instruction" not in step and "natural_language_instruction" not in observation:
        raise VerifyError("E601", f"{reader} needs a language_instruction in every step")
    splits = {name: split.num_examples for name, split in builder.info.splits.items()}
    return Opened(builder.info.name, cameras, depth, splits, builder, observation)


def instruction(trajectory: Mapping[str, Any]) -> str:
    """The text of a trajectory's first step."""
    text = trajectory.get("language_instruction")
    if text is None:
        text = trajectory["observation"]["natural_language_instruction"]
    return bytes(text[0]).decode("utf-8", "replace")


def config(opened: Opened) -> dict[str, Json]:
    """The entry of ``OXE_DATASET_CONFIGS`` that the dataset needs."""
    keys = dict(zip(("primary", "secondary"), (c for c in opened.cameras if not _is_wrist(c)), strict=False))
    wrist = next((c for c in opened.cameras if _is_wrist(c)), None)
    state = ["state"] if "state" in opened.observation else []
    return {
        "image_obs_keys": {slot: keys.get(slot) for slot in ("primary", "secondary")} | {"wrist": wrist},
        "depth_obs_keys": dict.fromkeys(("primary", "secondary", "wrist")),
        "state_obs_keys": state,
    }


@contextmanager
def readable() -> Iterator[None]:
    """Whatever is read in here is what TensorFlow can read.

    Raises:
        VerifyError: E601, it can't.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise VerifyError("E601", f"TFDS can't read it: {_reason(error)}") from None


def shrunk(pixels: Array, side: int) -> Array:
    """Images ``(B, side, side, 3)`` uint8, resized as both loaders do it (lanczos3)."""
    resized = tf.image.resize(pixels, (side, side), method="lanczos3", antialias=True)
    image: Array = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8).numpy()
    return image


def row(values: Array) -> str:
    """Numbers on one line."""
    return " ".join(f"{value:.4g}" for value in values)


def _stacked(steps: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        key: _stacked([step[key] for step in steps])
        if isinstance(value, dict)
        else _column([s[key] for s in steps])
        for key, value in steps[0].items()
    }


def _column(values: list[Any]) -> Any:
    return values if isinstance(values[0], bytes) else np.stack(values)


def _rank(name: str) -> tuple[bool, bool, str]:
    return _is_wrist(name), name not in ("image", "image_0", "primary"), name


def _is_wrist(name: str) -> bool:
    return any(word in name.lower() for word in ("wrist", "hand"))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {show((str(error).splitlines() or [''])[0][:200])}"
