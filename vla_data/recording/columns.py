"""What an open episode holds of each feature: its rows so far, and what the next one must be like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Feature
from vla_data.errors import RecordError
from vla_data.media.images import Encoding, encode
from vla_data.recording.npz import Member, Rows
from vla_data.recording.recorded import IMAGE_CONVENTION
from vla_data.recording.values import as_numbers, as_pixels, as_scalar, as_text, cast, check_finite

FLAGS: Final = ("next.success", "next.done", "next.terminated", "next.truncated")
REWARD: Final = "next.reward"
NUMBERS: Final = (
    "bool",
    "float16",
    "float32",
    "float64",
    *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
)


def is_camera(name: str) -> bool:
    """Whether a feature is an image by its name alone, which is LeRobot's for one."""
    return name == "observation.image" or name.startswith("observation.images.")


class Column(ABC):
    """The rows of one feature of one episode.

    Attributes:
        label: what messages call it.
        rows: what was kept, a step each.
        meaning: ``names`` and ``convention`` of its `feature`, where something is known.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.rows: list[Any] = []
        self.meaning: dict[str, Any] = {}

    @abstractmethod
    def ready(self, where: str, value: Any) -> Any:
        """What would be kept of a value; nothing is kept yet.

        Raises:
            RecordError: the value has another type, shape or size than it must have, or is not finite.
        """

    def keep(self, row: Any) -> None:
        """Keep what `ready` gave."""
        self.rows.append(row)

    @abstractmethod
    def size(self, row: Any) -> int:
        """Bytes that a row takes."""

    def feature(self) -> Feature:
        """What the rows are, and what they mean."""
        return replace(self._feature(), **self.meaning)

    @abstractmethod
    def _feature(self) -> Feature: ...

    def member(self, last: Any = None) -> Member:
        """All rows as a file has them, with one more if there is one."""
        return Rows(self._with(last))

    def _with(self, last: Any) -> list[Any]:
        return self.rows if last is None else [*self.rows, last]


class Camera(Column):
    """Images of one size, encoded as they come."""

    def __init__(self, label: str, encoding: Encoding, size: tuple[int, ...] = ()) -> None:
        super().__init__(label)
        self.meaning = {"convention": IMAGE_CONVENTION}
        self._encoding: Encoding = encoding
        self._size = self._declared = size

    def ready(self, where: str, value: Any) -> tuple[bytes, tuple[int, ...]]:
        """The encoded image, and its height and width."""
        origin = "is declared" if self._declared else "the ones before are"
        pixels = as_pixels(where, self.label, value, self._size, origin=origin)
        return encode(pixels, self._encoding), pixels.shape[:2]

    def keep(self, row: tuple[bytes, tuple[int, ...]]) -> None:
        """See `Column.keep`."""
        data, self._size = row
        self.rows.append(data)

    def size(self, row: tuple[bytes, tuple[int, ...]]) -> int:
        """See `Column.size`."""
        return len(row[0])

    def _feature(self) -> Feature:
        return Feature(dtype="image", shape=(*self._size, 3), names=("height", "width", "channels"))

    def member(self, last: Any = None) -> Member:
        """See `Column.member`."""
        return self._with(None if last is None else last[0])


class Numbers(Column):
    """Arrays of one shape and one type, which the first one sets where they are not declared.

    Args:
        label: see `Column`.
        dtype: that every array becomes; None: that of the first. A Python number fits any type that holds it.
        shape: that every array has; None in it: any size. None: that of the first.
        finite: whether NaN and infinity are refused.
    """

    def __init__(
        self,
        label: str,
        dtype: str | None = None,
        shape: tuple[int | None, ...] | None = None,
        *,
        finite: bool = True,
    ) -> None:
        super().__init__(label)
        self._dtype = None if dtype is None else np.dtype(dtype)
        self._declared = dtype is not None
        self._shape = shape
        self._finite = finite

    def ready(self, where: str, value: Any) -> NDArray[Any]:
        """A copy of the array."""
        given = as_numbers(where, self.label, value)
        if self._shape == () and given.size == 1:
            given = given.reshape(())
        self._check_shape(where, given)
        dtype = self._dtype or given.dtype
        if dtype != given.dtype and not self._declared and not isinstance(value, bool | int | float):
            hint = "give one type, or declare the feature's"
            raise RecordError("E203", f"{where}: {self.label} is {given.dtype}, and {dtype} in step 0; {hint}")
        array = cast(where, self.label, given, dtype)
        if self._finite:
            check_finite(where, self.label, array, given)
        return array

    def keep(self, row: NDArray[Any]) -> None:
        """See `Column.keep`."""
        self._dtype, self._shape = row.dtype, row.shape
        self.rows.append(row)

    def size(self, row: NDArray[Any]) -> int:
        """See `Column.size`."""
        return row.nbytes

    def _feature(self) -> Feature:
        return Feature(dtype=str(self.rows[0].dtype), shape=self.rows[0].shape or (1,))

    def _check_shape(self, where: str, given: NDArray[Any]) -> None:
        wanted = given.shape if self._shape is None else self._shape
        same = len(wanted) == given.ndim and all(
            n in (None, have) for n, have in zip(wanted, given.shape, strict=True)
        )
        if not same:
            spelled = ", ".join("D" if n is None else str(n) for n in wanted) + ("," if len(wanted) == 1 else "")
            raise RecordError("E203", f"{where}: {self.label} has shape {given.shape}, not ({spelled})")


class Told(Column):
    """One number or flag a step, of whatever type each is: what environments say in their infos."""

    def __init__(self, label: str, kinds: str = "biuf", wanted: str = "a number or flag", *, finite: bool = False):
        super().__init__(label)
        self._kinds, self._wanted, self._finite = kinds, wanted, finite

    def ready(self, where: str, value: Any) -> Any:
        """A NumPy scalar."""
        told = as_scalar(where, self.label, value, self._kinds, self._wanted)
        if self._finite and not np.isfinite(told):
            raise RecordError("E201", f"{where}: {self.label} is {told}")
        if self.rows and (self.rows[0].dtype.kind == "b") != (told.dtype.kind == "b"):
            raise RecordError("E203", f"{where}: {self.label} is {told}, and {self.rows[0]} in step 0")
        return told

    def size(self, row: Any) -> int:
        """See `Column.size`."""
        return int(row.nbytes)

    def _feature(self) -> Feature:
        return Feature(dtype=str(np.asarray(self.rows).dtype), shape=(1,))

    def member(self, last: Any = None) -> Member:
        """See `Column.member`."""
        return np.asarray(self._with(last))


class Flags(Told):
    """True or False in each step; a number is refused, since 0.5 would mean nothing."""

    def ready(self, where: str, value: Any) -> Any:
        """A NumPy flag."""
        return as_scalar(where, self.label, value, "b", "True or False", code="E205")


class Texts(Column):
    """A text in each step."""

    def ready(self, where: str, value: Any) -> str:
        """The text."""
        return as_text(where, self.label, value)

    def size(self, row: str) -> int:
        """See `Column.size`."""
        return 4 * len(row)

    def _feature(self) -> Feature:
        return Feature(dtype="string", shape=(1,))

    def member(self, last: Any = None) -> Member:
        """See `Column.member`."""
        return np.asarray(self._with(last), dtype=np.str_)


def declared_column(name: str, declared: Feature, encoding: Encoding) -> Column:
    """The column of a feature that is declared."""
    column: Column
    if declared.dtype == "image":
        column = Camera(name, encoding, declared.shape[:2])
    elif declared.dtype == "string":
        column = Texts(name)
    elif name in FLAGS:
        column = Flags(name)
    else:
        column = Numbers(name, declared.dtype, () if declared.shape == (1,) else declared.shape)
    known = {"names": declared.names, "convention": dict(declared.convention)}
    column.meaning |= {key: value for key, value in known.items() if value}
    return column


def column_for(name: str, value: Any, encoding: Encoding) -> Column:
    """The column of a feature by its name, or by its first value."""
    if is_camera(name):
        return Camera(name, encoding)
    if name in FLAGS:
        return Flags(name)
    if name == REWARD:
        return Numbers(name, "float64" if type(value) in (int, float) else None, ())
    if name == "task" or isinstance(value, str):
        return Texts(name)
    return Numbers(name, finite=not name.startswith("info."))
