"""Batches of a mixture through ``tf.data``, called as trainers on RLDS data call them.

    data = dataset(Loader(open_mixture("mixture.toml"), batch_size=32, workers=2))
    for batch in data.as_numpy_iterator(): ...

Names are those of Octo's and OpenVLA's loaders after their transforms: ``observation`` with ``image_<camera>``,
``proprio``, ``timestep``, ``pad_mask_dict`` (True where there is something) and ``timestep_pad_mask``; ``task``
with ``language_instruction``; ``action``, ``action_pad_mask``, ``action_dim_mask`` and ``dataset_name``. The axis
of time (``window_size``) is always there.

Which frames, in which order, and how they are decoded is the `Loader`'s business, not that of ``tf.data``, so a
stream is the same here as with NumPy or PyTorch, and goes on from the same state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from vla_data.mixtures import Batch, Loader

_CAMERA: Final = "observation.images."
_IS_PAD: Final = "_is_pad"


def dataset(loader: Loader, *, ahead: int = 2) -> tf.data.Dataset:
    """The rest of the loader's epoch; the next ``dataset`` of the same loader is of the next one.

    The loader counts what ``tf.data`` took, which is up to ``ahead`` batches more than what was trained on; with
    ``ahead`` 0 they are the same.
    """
    names = [member.name for member in loader.mixture.members]

    def batches() -> Iterator[dict[str, Any]]:
        for batch in loader:
            yield renamed(batch, names)

    example = renamed(loader.mixture.gather([_some(loader)], [0]), names)
    data = tf.data.Dataset.from_generator(batches, output_signature=_signature(example))
    return data.prefetch(ahead) if ahead else data


def renamed(batch: Batch, names: list[str]) -> dict[str, Any]:
    """A batch by the names above.

    Args:
        batch: of a mixture.
        names: of its datasets.
    """
    cameras = [name for name in batch if name.startswith(_CAMERA) and not name.endswith(_IS_PAD)]
    timed = any(batch[name].ndim == 5 for name in cameras)
    timed = timed or ("observation.state" in batch and batch["observation.state"].ndim == 3)

    def with_time(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return values if timed else values[:, None]

    observation: dict[str, Any] = {}
    there: dict[str, Any] = {}
    for name in cameras:
        image = f"image_{name.removeprefix(_CAMERA)}"
        observation[image] = with_time(batch[name])
        there[image] = ~with_time(batch[name + _IS_PAD])
    frame = batch["frame_index"]
    window = next(iter(there.values())).shape[1] if there else 1
    mask = np.ones((len(frame), window), dtype=np.bool_)
    if "observation.state" in batch:
        observation["proprio"] = with_time(batch["observation.state"])
        mask = ~with_time(batch["observation.state_is_pad"])
        there["proprio"] = mask
    observation["timestep"] = frame
    observation["timestep_pad_mask"] = mask
    observation["pad_mask_dict"] = there
    return {
        "observation": observation,
        "task": {"language_instruction": np.asarray([task.encode() for task in batch["task"]], dtype=object)},
        "action": batch["action"],
        "action_pad_mask": ~batch["action_is_pad"],
        "action_dim_mask": batch["action_mask"],
        "dataset_name": np.asarray([names[number].encode() for number in batch["dataset_index"]], dtype=object),
    }


def _some(loader: Loader) -> int:
    """A dataset that has frames."""
    return next(number for number, member in enumerate(loader.mixture.members) if member.frames)


def _signature(example: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in example.items():
        if isinstance(value, Mapping):
            out[name] = _signature(value)
        else:
            dtype = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
            out[name] = tf.TensorSpec((None, *value.shape[1:]), dtype)
    return out
