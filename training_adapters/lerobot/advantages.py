"""lerobot's RA-BC progress file ``sarm_progress.parquet`` (huggingface/lerobot, ``rewards/sarm/rabc.py``).

Columns ``index``, ``episode_index``, ``frame_index`` int64 and ``progress_sparse`` float32. It holds progress, not
advantages, so our values go in: ``progress = V + 1``, 1 at the end of a success. lerobot then weighs a frame by
``progress[t + 50] - progress[t]``, which is ``V[t+50] - V[t]``: the advantage without its constant price of time.
Stock lerobot trains with it: ``--sample_weighting.type=rabc``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_data.advantages.annotation import Annotation, parquet_bytes, parquet_table
from vla_data.advantages.format import Exchanged, Written
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.join import cover, place
from vla_data.errors import UsageError
from vla_data.files import arrow

FILE: Final = "sarm_progress.parquet"


def write(annotation: Annotation, table: FrameTable) -> Written:
    """All frames. ``facts`` counts progress outside of 0..1, which lerobot takes as it is.

    Raises:
        UsageError: E302 when ``index`` is not 0, 1, 2, ... over the dataset: lerobot looks frames up by it.
    """
    if not np.array_equal(np.sort(table.index), np.arange(len(table))):
        raise UsageError("E302", "the dataset's index does not count 0, 1, 2, ..., and RA-BC finds frames by it")
    progress = (annotation.values + 1).astype(np.float32)
    columns = {
        "index": table.index,
        "episode_index": table.episode_index,
        "frame_index": table.episodes.frame_index(),
        "progress_sparse": progress,
    }
    metadata = {b"reward_model_path": f"vla-data:{annotation.tag}".encode()}
    outside = int(np.count_nonzero((progress < 0) | (progress > 1)))
    return Written(
        files={FILE: parquet_bytes(arrow.table(columns), metadata)},
        facts={"outside_0_1": outside},
    )


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written."""
    del tag  # there is one file a dataset
    return (FILE,)


def read(table: FrameTable, tag: str | None = None) -> Exchanged:
    """The file's progress, as values.

    A row is matched by episode and frame; where its ``index`` is another than the dataset's, it is ``inexact``.

    Raises:
        UsageError: E003 without the file, E302 when it is something else.
    """
    del tag  # there is one file a dataset
    found = parquet_table(table.root, FILE)
    for name in ("index", "progress_sparse"):
        if name not in found.column_names:
            raise UsageError("E302", f"{FILE} has no column {name}")
    progress = arrow.to_numpy(found["progress_sparse"])
    there = np.isfinite(progress)  # lerobot leaves NaN out
    rows = table.rows(arrow.to_numpy(found["episode_index"]), arrow.to_numpy(found["frame_index"]))[there]
    wrong = table.index[np.maximum(rows, 0)] != arrow.to_numpy(found["index"])[there]
    return Exchanged(
        layout="rabc",
        files=(FILE,),
        coverage=cover(table, rows, inexact=wrong),
        values=place(rows, progress[there].astype(np.float64), len(table)) - 1,
        facts={
            "reward_model_path": (found.schema.metadata or {})
            .get(b"reward_model_path", b"")
            .decode("utf-8", "replace")
        },
    )
