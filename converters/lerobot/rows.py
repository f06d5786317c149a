"""One episode as LeRobot's rows, or the reason why LeRobot can't hold it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa

from converters.lerobot import language, meta
from converters.lerobot.values import way_out
from vla_data.core import Array, Episode, Schema
from vla_data.errors import DataError
from vla_data.files import arrow
from vla_data.media.images import Encoding
from vla_data.safety.text import show


def tasks(episode: Episode) -> list[str]:
    """The instruction of every step."""
    if "task" in episode.arrays:
        return [str(task) for task in episode.arrays["task"]]
    return [episode.task] * len(episode)


def storable(name: str, episode: Episode, schema: Schema) -> Array:
    """An array as LeRobot holds it: with its dtype, of shape ``(T,)`` for single elements.

    Raises:
        DataError: E232 for what LeRobot has no feature for, E203 for another shape or dtype than the schema says,
            E201 for a number that is not finite, which its statistics would spread, in anything but maps.
    """
    array = np.asarray(episode.arrays[name])
    feature = schema.features[name]
    if name in meta.INDEX_FEATURES:
        raise DataError("E232", f"LeRobot writes its own {name}; give the feature another name")
    kind = "string" if array.dtype.kind == "U" else str(array.dtype)
    if kind not in meta.DTYPES:
        raise DataError(
            "E232", f"{name} has dtype {kind}; LeRobot holds {', '.join(meta.DTYPES)}; {way_out(name)}"
        )
    if array.ndim > 5:
        raise DataError("E232", f"{name} has {array.ndim - 1} dimensions a step; LeRobot features have at most 4")
    shape = array.shape[1:] or (1,)
    if 0 in shape:
        raise DataError(
            "E203", f"{name} has no elements, {kind}{shape} a step; --drop {shlex.quote(show(name))} leaves it out"
        )
    if kind != feature.dtype or shape != (feature.shape or (1,)):
        raise DataError("E203", f"{name} is {kind}{shape} a step; the schema says {feature.dtype}{feature.shape}")
    if kind == "string" and shape != (1,):
        raise DataError("E232", f"{name} has {shape} texts a step; LeRobot features have one; {way_out(name)}")
    if array.dtype.kind == "f" and array.ndim <= 2 and not np.isfinite(array).all():
        at = np.argwhere(~np.isfinite(array))[0]
        place = f"{name}{''.join(f'[{i}]' for i in at)}"
        raise DataError("E201", f"{place} is {array[tuple(at)]}; {way_out(name)}")
    return array[:, 0] if array.ndim == 2 and shape == (1,) else array


def check_names(episode: Episode, schema: Schema, arrays: Mapping[str, Array]) -> None:
    """That every feature of the schema is there, and can be called what it is called.

    Raises:
        DataError: E206 or E232.
    """
    for name, feature in schema.features.items():
        is_camera = feature.dtype == "image"
        if not (meta.NAME if is_camera else meta.COLUMN).fullmatch(name) or show(name) != name:
            why = ", which becomes a path" if is_camera else ""
            raise DataError("E232", f"LeRobot can't have a feature named {show(name)[:80]}{why}; {_way(name)}")
        if name not in (episode.frames if is_camera else arrays):
            raise DataError("E206", f"the episode has no {name}, which its schema has")


def _way(name: str) -> str:
    typed = shlex.quote(show(name)[:80])
    return f"--rename {typed}=NAME or --drop {typed}"


def column(array: Array) -> pa.Array:
    """One row a step: plain, as lists of one length, or as lists in lists."""
    if array.ndim == 1:
        return arrow.from_numpy(array)
    column = arrow.from_numpy(np.ascontiguousarray(array).reshape(-1))
    if array.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(column, array.shape[1])
    for size in array.shape[:0:-1]:
        try:
            column = arrow.lists(column, size)
        except OverflowError as error:
            raise DataError("E107", f"the episode has {error} in one feature, more than Arrow can hold") from None
    return column


def language_in(schema: Schema) -> list[str]:
    """The features that become lerobot's columns of language."""
    texts = [name for name, feature in schema.features.items() if feature.dtype == "string"]
    return [name for name in language.COLUMNS if name in texts]


def with_language(table: pa.Table, typed: pa.Schema, fps: float) -> pa.Table:
    """Rows whose texts of language are lerobot's columns, where ``typed`` has these."""
    for name in language.COLUMNS:
        if name in table.column_names and pa.types.is_list(typed.field(name).type):
            column = language.column(table[name].to_pylist(), name, fps)
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def image_column(items: Iterable[bytes], encoding: Encoding | Literal["tiff"]) -> pa.Array:
    """Encoded images as Hugging Face ``datasets`` stores them."""
    data = arrow.from_rows(items, pa.binary())
    suffix = "jpg" if encoding == "jpeg" else encoding
    paths = arrow.from_rows([f"frame-{i:06d}.{suffix}" for i in range(len(data))], pa.string())
    return pa.StructArray.from_arrays([data, paths], fields=list(meta.IMAGE))
