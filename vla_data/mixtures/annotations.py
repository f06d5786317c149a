"""A dataset's annotation in batches: what was computed for a frame, by the dataset's own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

Positions = NDArray[np.int64]

COLUMNS: Final[Mapping[str, np.dtype[Any]]] = {
    "advantage": np.dtype(np.float64),
    "value": np.dtype(np.float64),
    "return": np.dtype(np.int64),
    "positive": np.dtype(np.bool_),
}
"""What a batch gets, by the names and with the numbers of the annotation's file; ``positive`` where it has
thresholds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """What a tag says of every frame of a dataset.

    Attributes:
        numbers: (E,) ``episode_index`` of each episode, ascending.
        starts: (E,) its first row in the columns.
        lengths: (E,) its rows.
        columns: name of `COLUMNS` -> (N,).
    """

    numbers: Positions
    starts: Positions
    lengths: Positions
    columns: Mapping[str, Array]

    @classmethod
    def read(cls, root: Path, tag: str) -> Annotations:
        """The annotation of a LeRobot dataset, checked: made for this data, and every frame has exactly one row.

        Raises:
            UsageError: E001 for a tag that can't be one, E003 for one that is not there or a dataset of another
                format, E301 for an annotation of other data, E302 for one that is partial or damaged.
            DataError: the dataset's rows are not whole episodes, or can't be read.
        """
        from vla_data.advantages.annotation import FOLDER, read_annotation, sidecar  # loads pyarrow
        from vla_data.advantages.frame_table import FrameTable

        if not (root / "meta/info.json").is_file():
            raise UsageError(
                "E003", f"annotation = {show(tag)!r} needs a LeRobot dataset, and this is another format"
            )
        if not (root / sidecar(tag)).is_file():
            have = ", ".join(sorted(show(path.stem) for path in (root / FOLDER).glob("*.parquet"))) or "none"
            raise UsageError("E003", f"there is no annotation {show(tag)!r}; it has: {have} (vla-data annotate)")
        table = FrameTable.read(root)
        made = read_annotation(table, tag)
        found = {
            "advantage": made.advantages,
            "value": made.values,
            "return": made.returns,
            "positive": made.positive,
        }
        order = np.argsort(table.numbers, kind="stable")
        return cls(
            numbers=table.numbers[order],
            starts=np.asarray(table.episodes.starts, dtype=np.int64)[order],
            lengths=np.asarray(table.episodes.lengths, dtype=np.int64)[order],
            columns={name: np.asarray(values) for name, values in found.items() if values is not None},
        )

    def at(self, episode: int, frames: Positions) -> dict[str, Array]:
        """Name -> (n,), for frames of an episode of that ``episode_index``.

        Raises:
            UsageError: E302 when one of them has no row.
        """
        place = int(np.searchsorted(self.numbers, episode))
        known = place < len(self.numbers) and int(self.numbers[place]) == episode
        if not known or (len(frames) and int(frames.max()) >= int(self.lengths[place])):
            what = f"frame {int(frames.max())}" if known else "any frame"
            raise UsageError("E302", f"the annotation has no row for {what} of episode {episode}")
        rows = int(self.starts[place]) + frames
        return {name: values[rows] for name, values in self.columns.items()}


def read_for(name: str, root: Path, tag: str) -> Annotations:
    """The annotation that a dataset's entry asks for.

    Raises:
        UsageError: see `Annotations.read`; it names the dataset, and says what to do.
    """
    try:
        return Annotations.read(root, tag)
    except (UsageError, DataError) as error:
        again = "; make it again with vla-data annotate" if error.code in ("E301", "E302") else ""
        raise UsageError(error.code, f"{show(name)}: {error.message}{again}") from None


def common_columns(by_name: Mapping[str, Annotations | None], extras: Sequence[str]) -> dict[str, np.dtype[Any]]:
    """Name -> type of what batches get from the annotations of datasets; nothing where none has one.

    Raises:
        UsageError: E231 when some datasets have one and others not, E302 when some have labels and others not,
            E001 for an extra of the same name.
    """
    given = {name: one for name, one in by_name.items() if one is not None}
    if not given:
        return {}
    for name, one in by_name.items():
        if one is None:
            other = show(next(iter(given)))
            raise UsageError("E231", f"annotation of {show(name)}; {other} has one, and every dataset needs one")
    labelled = {name: "positive" in one.columns for name, one in given.items()}
    if any(labelled.values()) and not all(labelled.values()):
        without = next(name for name, has in labelled.items() if not has)
        raise UsageError(
            "E302",
            f"the annotation of {show(without)} has no labels and those of other datasets do; make it again with "
            "--positive-share or --epsilon",
        )
    names = [name for name in COLUMNS if name != "positive" or all(labelled.values())]
    for name in names:
        if name in extras:
            raise UsageError("E001", f"extras has {name}, which the annotation gives already; leave it out")
    return {name: COLUMNS[name] for name in names}
