"""RLinf's Parquet sidecars (RLinf/RLinf): ``meta/returns_<tag>.parquet`` and ``meta/advantages_<tag>.parquet``.

``return``, ``reward`` and ``reward_sum_raw`` are in steps; ``reward_sum``, the values and ``advantage_continuous``
are divided by our normaliser, where RLinf maps returns by their minimum and maximum over the dataset.
``advantage`` is the label. RLinf also copies statistics of returns into ``meta/stats.json``; that file is the
dataset's and stays as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from vla_data.advantages.annotation import Annotation, parquet_bytes, parquet_table
from vla_data.advantages.format import Exchanged, Written, need_labels, need_tag
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.join import cover, place
from vla_data.errors import UsageError
from vla_data.files import arrow


def write(annotation: Annotation, table: FrameTable) -> Written:
    """Both files."""
    positive = need_labels(annotation, "rlinf")
    episode, frame = table.episode_index, table.episodes.frame_index()
    ahead = np.arange(len(table)) + annotation.look_ahead
    inside = ahead < table.episodes.per_frame(table.episodes.ends)
    at = np.where(inside, ahead, 0)
    raw = annotation.returns - np.where(inside, annotation.returns[at], 0)
    last = table.episodes.last
    reward = np.full(len(table), -1, dtype=np.int64)
    reward[last] = annotation.returns[last]
    names, task = np.unique(table.task, return_inverse=True)
    prompts = arrow.from_rows([table.tasks.get(int(name), "") for name in names], pa.string())
    returns = {
        "episode_index": episode,
        "frame_index": frame,
        "return": annotation.returns.astype(np.float64),
        "reward": reward.astype(np.float64),
        "prompt": prompts.take(arrow.from_numpy(task.reshape(-1))),
    }
    advantages = {
        "episode_index": episode,
        "frame_index": frame,
        "advantage_continuous": annotation.advantages,
        "return": annotation.returns.astype(np.float64),
        "value_current": annotation.values,
        "value_next": np.where(inside, annotation.values[at], 0.0),
        "reward_sum": raw / annotation.normalizers,
        "reward_sum_raw": raw.astype(np.float64),
        "num_valid_rewards": annotation.look_ahead,
        "advantage": positive,
    }
    first, second = files(annotation.tag)
    return Written(
        files={first: parquet_bytes(arrow.table(returns)), second: parquet_bytes(arrow.table(advantages))},
        facts={"tag": annotation.tag},
    )


def files(tag: str) -> tuple[str, str]:
    """The names of both files."""
    return f"meta/returns_{tag}.parquet", f"meta/advantages_{tag}.parquet"


def read(table: FrameTable, tag: str | None) -> Exchanged:
    """The advantages of a tag.

    Raises:
        UsageError: E001 without a tag, E003 without the file, E302 when it is something else.
    """
    name = files(need_tag(tag, "rlinf"))[1]
    found = parquet_table(table.root, name)
    missing = {"advantage_continuous", "advantage"} - set(found.column_names)
    if missing:
        raise UsageError("E302", f"{name} has no column {sorted(missing)[0]}")
    rows = table.rows(arrow.to_numpy(found["episode_index"]), arrow.to_numpy(found["frame_index"]))

    def column(key: str) -> Any:
        return place(rows, arrow.to_numpy(found[key]), len(table)) if key in found.column_names else None

    positive = column("advantage")
    if positive.dtype != np.bool_:
        raise UsageError("E302", f"{name}: advantage is {found['advantage'].type}, not bool")
    advantages = column("advantage_continuous")
    bad = int(np.count_nonzero(~np.isfinite(arrow.to_numpy(found["advantage_continuous"]))))
    if bad:
        raise UsageError("E302", f"{name}: {bad:,} of {len(found):,} advantages are not finite")
    return Exchanged(
        layout="rlinf",
        files=(name,),
        coverage=cover(table, rows),
        advantages=advantages,
        values=column("value_current"),
        positive=positive,
    )
