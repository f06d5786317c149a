"""What sources of pickled episodes share: their files, and arrays from what stands in lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rollouts.files import LocalFiles
from vla_data.actions.limits import check_numbers
from vla_data.core import Episode, Feature, Schema
from vla_data.core.base import RootedSource
from vla_data.errors import DataError
from vla_data.recording.recorded import IMAGE_CONVENTION

SUFFIXES: Final = (".pkl",)


class Pickles(RootedSource):
    """A folder (with its subfolders) of pickles, or one of them, read without running anything."""

    root: Path

    @property
    def _files(self) -> LocalFiles:
        return LocalFiles(self.root)


def described(episode: Episode, fps: float) -> Schema:
    """What the arrays and frames of ``episode`` are; what they mean is not in such files."""
    features = {
        name: Feature(
            dtype="image",
            shape=(frames.height, frames.width, 3),
            names=("height", "width", "channels"),
            convention=IMAGE_CONVENTION,
        )
        for name, frames in episode.frames.items()
    }
    for name, array in episode.arrays.items():
        features[name] = Feature(dtype=str(array.dtype), shape=array.shape[1:] or (1,))
    return Schema(features=features, fps=fps)


def array_of(name: str, value: Any) -> NDArray[Any]:
    """Numbers or flags as an array.

    Raises:
        DataError: E203, they are something else, or lists of unlike lengths.
    """
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        raise DataError("E203", f"{name} is no array of numbers") from None
    if found.dtype.kind not in "biuf":
        raise DataError("E203", f"{name} is no array of numbers")
    return found


def steps_of(name: str, value: Any) -> Sequence[Any]:
    """What stands in a list, one item a step.

    Raises:
        DataError: E203, it is no list.
    """
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
        return value  # type: ignore[return-value]  # an array of steps is as good
    raise DataError("E203", f"{name} is a {type(value).__name__}, not a list with an item a step")


def rows(name: str, values: Sequence[Any]) -> NDArray[Any]:
    """``(T, D)`` of a vector in each step.

    Raises:
        DataError: E203, these are not vectors of one length.
    """
    found = [array_of(name, value) for value in values]
    shapes = {row.shape for row in found}
    if len(shapes) != 1 or found[0].ndim != 1:
        raise DataError("E203", f"{name} has shapes {', '.join(map(str, sorted(shapes)))}, not one vector a step")
    return np.stack(found)


def column(name: str, values: Sequence[Any]) -> NDArray[Any]:
    """``(T,)`` of one number in each step; of a chunk's, the last.

    Raises:
        DataError: E203, a step has no number.
    """
    found = [array_of(name, value).reshape(-1) for value in values]
    if any(row.size == 0 for row in found):
        raise DataError("E203", f"{name} is not one number a step")
    return np.array([row[-1] for row in found])


def flag(value: Any) -> bool:
    """Whether an episode was solved.

    Raises:
        DataError: E205, it is neither True nor False.
    """
    flags = (
        np.asarray(value).reshape(-1) if isinstance(value, bool | int | float | np.generic | np.ndarray) else None
    )
    if flags is None or flags.size != 1 or flags.dtype.kind not in "biuf" or flags[0] not in (0, 1):
        raise DataError("E205", "success is not True or False")
    return bool(flags[0])


def narrow(array: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as float32; what is too large for it becomes infinite, and is refused as such."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32)


def check_finite(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse numbers that are none.

    Raises:
        DataError: E201, with the first such place.
    """
    for name, array in arrays.items():
        check_numbers(name, array)
