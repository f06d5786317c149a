"""What a LeRobot dataset says of the pixels of an episode's videos: statistics that hold while no frame changes.

v3.0 has them in ``meta/episodes``, v2.1 in ``meta/episodes_stats.jsonl``. lerobot's own are of some of the frames.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from converters.lerobot.files import Files
from vla_data.core import Json
from vla_data.errors import DataError, UsageError
from vla_data.files.write import files_below, machine_errors
from vla_data.statistics import QUANTILES

NEEDED: Final = ("min", "max", "mean", "std")
_V21: Final = "meta/episodes_stats.jsonl"


class CameraStats:
    """The statistics of the videos of a dataset, read when they are first asked for.

    Args:
        files: of the dataset.
        numbers: ``episode_index`` of each episode, as listed.
        cameras: features that are video.
        is_v3: whether it is of v3.0.
    """

    def __init__(self, files: Files, numbers: Sequence[int], cameras: Sequence[str], *, is_v3: bool) -> None:
        self._files, self._numbers, self._cameras, self._is_v3 = files, numbers, cameras, is_v3

    def of(self, number: int, camera: str) -> Mapping[str, Json] | None:
        """``min``, ``max``, ``mean``, ``std``, ``count`` and, where known, quantiles of an episode's images; None
        where they are not there or can't be statistics of images.
        """
        try:
            found = self._columns(number, camera) if self._is_v3 else self._lines.get(number, {}).get(camera)
        except (DataError, UsageError, pa.ArrowException, KeyError, AttributeError):
            return None
        return _checked(found)

    def _columns(self, number: int, camera: str) -> Mapping[str, Json]:
        table, at = self._table, self._positions[number]
        begin = f"stats/{camera}/"
        names = [name for name in table.column_names if name.startswith(begin)]
        return {name.removeprefix(begin): table[name][at].as_py() for name in names}

    @functools.cached_property
    def _positions(self) -> Mapping[int, int]:
        return {number: at for at, number in enumerate(self._numbers)}

    @functools.cached_property
    def _table(self) -> pa.Table:
        begins = tuple(f"stats/{camera}/" for camera in self._cameras)
        root = self._files.root
        with machine_errors("cannot list the episodes"):
            files = files_below(root / "meta/episodes", ".parquet")
        names = [file.relative_to(root).as_posix() for file in files]
        tables = [self._files.parquet(name, lambda column: column.startswith(begins)) for name in names]
        return pa.concat_tables(tables, promote_options="permissive")

    @functools.cached_property
    def _lines(self) -> Mapping[int, Mapping[str, Any]]:
        return {line["episode_index"]: line["stats"] for line in self._files.lines(_V21)}


def _checked(found: Any) -> Mapping[str, Json] | None:
    """Statistics of three channels, each of shape ``(3, 1, 1)``."""
    if not isinstance(found, Mapping):
        return None
    out = {name: found.get(name) for name in (*NEEDED, *QUANTILES) if found.get(name) is not None}
    count = found.get("count")
    count = count[0] if isinstance(count, list) and len(count) == 1 else count
    if not isinstance(count, int | float) or isinstance(count, bool) or not (count >= 1 and count % 1 == 0):
        return None
    if any(name not in out for name in NEEDED) or not all(map(_is_of_channels, out.values())):
        return None
    return {**out, "count": [int(count)]}


def _is_of_channels(value: Any) -> bool:
    try:
        numbers = [float(number) for ((number,),) in value]
    except (TypeError, ValueError):
        return False
    return len(numbers) == 3 and all(map(math.isfinite, numbers))
