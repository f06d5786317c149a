"""Evo-RL's columns (MINT-SJTU/Evo-RL, ``scripts/lerobot_value_infer.py``), in the data files themselves.

    complementary_info.value_<tag>, complementary_info.advantage_<tag>     float32
    complementary_info.acp_indicator_<tag>                                 int64, 1 is positive

Evo-RL writes them into the original. A published dataset is never edited here: the columns are in a copy beside
it, with all of its files but annotations and our ledger, manifest and sums, which do not speak of the copy. Images
and videos are copied byte for byte. What the copy was made of is in its ``meta/vla_data/annotated.json``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training_adapters import dataset_copy
from vla_data.advantages.annotation import Annotation
from vla_data.advantages.format import Exchanged, need_labels, need_tag
from vla_data.advantages.frame_table import FrameTable, as_flags
from vla_data.advantages.join import cover, place
from vla_data.advantages.numbers.flat import Ints
from vla_data.files import arrow


def columns(tag: str) -> tuple[str, str, str]:
    """Names of value, advantage and indicator."""
    return (
        f"complementary_info.value_{tag}",
        f"complementary_info.advantage_{tag}",
        f"complementary_info.acp_indicator_{tag}",
    )


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written into the dataset: nothing."""
    del tag
    return ()


def write_copy(annotation: Annotation, table: FrameTable, target: Path) -> None:
    """Publish a copy of the dataset with the three columns at ``target``, whole or not at all.

    Raises:
        UsageError: E001 without labels.
        TargetExistsError: E411, ``target`` is there.
    """
    positive = need_labels(annotation, "evo-rl")
    value, advantage, indicator = columns(annotation.tag)
    new: dict[str, arrow.Values] = {
        value: annotation.values.astype(np.float32),
        advantage: annotation.advantages.astype(np.float32),
        indicator: positive.astype(np.int64),
    }
    made = {
        name: dataset_copy.of_numbers(name, arrow.from_numpy(values), values.dtype.name)
        for name, values in new.items()
    }
    dataset_copy.write_copy("evo-rl", annotation, table, target, made)


def read(table: FrameTable, tag: str | None) -> Exchanged:
    """The columns of a tag in the dataset's own data files. Evo-RL leaves NaN where it was not run.

    Raises:
        UsageError: E001 without a tag, E003 when the columns are not there.
        DataError: E205 for an indicator that is neither 0 nor 1.
    """
    value, advantage, indicator = columns(need_tag(tag, "evo-rl"))
    found = FrameTable.read(table.root, (value, advantage, indicator)).columns
    finite = np.isfinite(found[value]) & np.isfinite(found[advantage])
    rows: Ints = np.flatnonzero(finite)
    return Exchanged(
        layout="evo-rl",
        files=table.files,
        coverage=cover(table, rows),
        advantages=place(rows, found[advantage][rows].astype(np.float64), len(table)),
        values=place(rows, found[value][rows].astype(np.float64), len(table)),
        positive=as_flags(found[indicator], indicator),
    )
