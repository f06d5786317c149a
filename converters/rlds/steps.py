"""The features of the steps of one record: arrays and cameras, by our names, with notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from converters.rlds import names as rlds_names
from converters.rlds import values
from converters.rlds.features import Leaf
from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.safety.text import show


def read_steps(
    leaves: Iterable[Leaf], names: Mapping[str, str], record: values.Record, steps: int, *, widen: bool
) -> tuple[dict[str, Array], dict[str, Frames], list[str]]:
    """Arrays ``(T, ...)``, cameras of ``T`` images, and notes.

    A text that is a JPEG or PNG file in every step is a camera too, which only the record tells.

    Args:
        leaves: what is read of a step.
        names: path of a leaf -> our name.
        record: of an episode.
        steps: of it.
        widen: float16 as float32, which holds each of its values and which trainers' formats have.

    Raises:
        DataError: see `converters.rlds.values`.
    """
    arrays: dict[str, Array] = {}
    frames: dict[str, Frames] = {}
    notes: list[str] = []
    for leaf in leaves:
        name = names[leaf.path]
        if leaf.is_camera:
            frames[name] = values.frames(leaf, record)
            notes += [f"camera_from_numbers:{name}"] if leaf.pixels else []
        elif values.is_file(leaf, record):
            name = rlds_names.name_of(leaf.path.removeprefix("steps/"), is_camera=True)
            if name in names.values() and name != names[leaf.path]:
                raise DataError("E232", f"two features would be called {show(name)}{values.without(leaf)}")
            frames[name] = values.frames(leaf, record)
            notes.append(f"camera_from_texts:{name}")
        else:
            array = values.array(leaf, record, steps)
            if array.dtype == np.float16 and widen:
                array = array.astype(np.float32)
                notes.append(f"float16_as_float32:{name}")
            if leaf.kind == "image" and leaf.dtype == "uint8" and not leaf.lists:  # gray, or with opacity
                notes.append(f"pictures_kept_as_numbers:{name}")
            arrays[name] = array
        if leaf.dtype == "bfloat16":
            notes.append(f"bfloat16_as_float32:{leaf.path}")
    return arrays, frames, notes
