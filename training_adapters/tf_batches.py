"""Batches of a mixture through ``tf.data``, called as trainers on RLDS data call them.

    data = dataset(Loader(open_mixture("mixture.toml"), batch_size=32, workers=2))
    for batch in data.as_numpy_iterator(): ...

Names are those of Octo's and OpenVLA's loaders after their transforms: ``observation`` with ``image_<camera>``,
``proprio``, ``timestep``, ``pad_mask_dict`` (True where there is something) and ``timestep_pad_mask``; ``task``
with ``language_instruction``; ``action``, ``action_pad_mask``, ``action_dim_mask`` and ``dataset_name``. The axis
of time (``window_size``) is always there. Everything else keeps its name: numbers of episodes and frames, extras,
and what annotations say (``advantage``, ``positive`` and so on).

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
_STATE: Final = "observation.state"
_RENAMED: Final = (_STATE, f"{_STATE}{_IS_PAD}", "task", "action", "action_is_pad", "action_mask")


def dataset(loader: Loader, *, ahead: int = 2) -> tf.data.Dataset:
    """The rest of the loader's epoch each time that it is iterated: what is left of this one, then the next.

    The loader counts a batch when this dataset hands it on, and not when it was made ahead. So an iteration that
    stops is gone on with by the next, ``repeat()`` has one epoch after the other, and the loader's state is that
    of the batch in hand. What you add after it and takes more than it gives (``prefetch``, ``shuffle``) counts as
    trained on. Iterate one at a time: two iterators of a loader have one place in the stream.

    Args:
        loader: what to load.
        ahead: batches that are made ahead, besides those of the loader's own threads.
    """
    names = [member.name for member in loader.mixture.members]

    def batches() -> Iterator[tuple[int, int, dict[str, Any]]]:
        # tf.data ends for good at an epoch without batches, which a rank may go on from: see `Loader`.
        loader.end_epoch()
        epoch = loader.epoch
        for number, batch in loader.made():
            yield epoch, number, renamed(batch, names)

    def counted(epoch: tf.Tensor, number: tf.Tensor, batch: dict[str, Any]) -> dict[str, Any]:
        tf.numpy_function(lambda e, n: loader.advance(int(e), int(n)), [epoch, number], [])
        return batch

    def end() -> Iterator[dict[str, Any]]:
        loader.end_epoch()
        yield from ()

    signature = _signature(renamed(loader.example(), names))
    whole = tf.TensorSpec((), tf.int64)
    data = tf.data.Dataset.from_generator(batches, output_signature=(whole, whole, signature))
    if ahead:
        data = data.prefetch(ahead)
    data = data.map(counted).concatenate(tf.data.Dataset.from_generator(end, output_signature=signature))
    options = tf.data.Options()
    # These would count batches before they are asked for.
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return data.with_options(options)


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
    row = batch["frame_position"]
    window = next(iter(there.values())).shape[1] if there else 1
    mask = np.ones((len(row), window), dtype=np.bool_)
    if "observation.state" in batch:
        observation["proprio"] = with_time(batch["observation.state"])
        mask = ~with_time(batch["observation.state_is_pad"])
        there["proprio"] = mask
    observation["timestep"] = row
    observation["timestep_pad_mask"] = mask
    observation["pad_mask_dict"] = there
    used = {*cameras, *(name + _IS_PAD for name in cameras), *_RENAMED}
    return {
        "observation": observation,
        "task": {"language_instruction": np.asarray([task.encode() for task in batch["task"]], dtype=object)},
        "action": batch["action"],
        "action_pad_mask": ~batch["action_is_pad"],
        "action_dim_mask": batch["action_mask"],
        "dataset_name": np.asarray([names[number].encode() for number in batch["dataset_index"]], dtype=object),
        **{name: _plain(values) for name, values in batch.items() if name not in used},
    }


def _plain(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Texts as bytes, as TensorFlow has them."""
    if values.dtype.kind not in "OU":
        return values
    texts = [str(text).encode() for text in values.reshape(-1)]
    return np.asarray(texts, dtype=object).reshape(values.shape)


def _signature(example: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in example.items():
        if isinstance(value, Mapping):
            out[name] = _signature(value)
        else:
            dtype = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
            out[name] = tf.TensorSpec((None, *value.shape[1:]), dtype)
    return out
