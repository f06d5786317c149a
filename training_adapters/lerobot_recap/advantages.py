"""What LeRobot's RECAP branch reads (huggingface/lerobot#3764, which no release has), in a copy of the dataset.

    mc_return             float32: the return of the frame, divided by its normaliser
    is_terminal           bool: the last frame of an episode
    language_persistent   one more row of style "advantage" where the label changes, "Advantage: positive" or
                          "Advantage: negative"; as all rows there it holds until the next one

The branch has labels by one threshold or one of each task, and human corrections are positive, which is what an
annotation's labels say. Rows of another style stay, and rows of this one are replaced. Columns of language need
v3.0.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from converters.lerobot import language, meta
from converters.lerobot.totals import LANGUAGE
from training_adapters import dataset_copy
from training_adapters.recap.indicator import NEGATIVE, POSITIVE
from training_adapters.stored import as_lerobot
from vla_data.advantages.annotation import Annotation
from vla_data.advantages.format import Exchanged, labelled, need_labels
from vla_data.advantages.frame_table import FrameTable, as_flags
from vla_data.advantages.numbers.flat import Bools
from vla_data.errors import UsageError
from vla_data.files import arrow
from vla_data.files.tables import open_parquet
from vla_data.safety import strict_json
from vla_data.safety.text import show

STYLE: Final = "advantage"
RETURN: Final = "mc_return"
TERMINAL: Final = "is_terminal"
_TEXTS: Final = {True: POSITIVE, False: NEGATIVE}


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written into the dataset: nothing."""
    del tag
    return ()


def write_copy(annotation: Annotation, table: FrameTable, target: Path) -> None:
    """Publish a copy of the dataset with the three columns at ``target``, whole or not at all.

    Raises:
        UsageError: E001 without labels, E002 for a dataset that is not of v3.0, E302 for a column of language that
            can't be read.
        TargetExistsError: E411, ``target`` is there.
    """
    positive = need_labels(annotation, "lerobot-recap")
    info = strict_json.read(table.root / dataset_copy.INFO, root=table.root)
    if info.get("codebase_version") != meta.VERSION:
        raise UsageError(
            "E002", "lerobot-recap needs v3.0, which has columns of language; convert the dataset first"
        )
    returns = (annotation.returns / annotation.normalizers).astype(np.float32)
    last = np.zeros(len(table), dtype=np.bool_)
    last[table.episodes.ends - 1] = True
    columns = {
        RETURN: dataset_copy.of_numbers(RETURN, arrow.from_numpy(returns), "float32"),
        TERMINAL: dataset_copy.of_numbers(TERMINAL, arrow.from_numpy(last), "bool"),
        language.PERSISTENT: dataset_copy.Column(
            make=lambda found, row: _with_rows(found, row, table, positive),
            feature={"dtype": LANGUAGE, "shape": [1], "names": None},
            hf=language.hf_feature(language.PERSISTENT),
            leaves=tuple(language.leaves(language.PERSISTENT)),
        ),
    }
    dataset_copy.write_copy("lerobot-recap", annotation, table, target, columns, link=True)


def _with_rows(found: pa.Table, row: int, table: FrameTable, positive: Bools) -> pa.Array:
    """The column of a row group, whose rows are those of the dataset from ``row`` on."""
    kind = language.arrow_type(language.PERSISTENT)
    known = found[language.PERSISTENT].to_pylist() if language.PERSISTENT in found.column_names else None
    starts, ends = table.episodes.starts, table.episodes.ends
    parts = []
    at = row
    while at < row + len(found):
        episode = int(np.searchsorted(ends, at, side="right"))
        stop = min(int(ends[episode]), row + len(found))
        own = known[at - row] if known is not None else None
        rows = [item for item in own or () if item.get("style") != STYLE]
        rows += _labels(range(int(starts[episode]), int(ends[episode])), table, positive)
        rows.sort(key=lambda item: float(item["timestamp"]))
        once = arrow.from_rows([language.stored(item, timed=True) for item in rows], kind.value_type)
        every = once.take(arrow.from_numpy(np.tile(np.arange(len(rows)), stop - at)))
        offsets = arrow.from_numpy((np.arange(stop - at + 1) * len(rows)).astype(np.int32))
        parts.append(pa.ListArray.from_arrays(offsets, every))
        at = stop
    return pa.concat_arrays(parts) if parts else arrow.from_rows([], kind)


def _labels(frames: range, table: FrameTable, positive: Bools) -> list[dict[str, Any]]:
    """A row at the first frame and wherever the label is another than at the frame before."""
    flags = positive[frames.start : frames.stop].tolist()
    turns = [0, *(i + 1 for i, (a, b) in enumerate(itertools.pairwise(flags)) if a != b)]
    return [
        {
            "role": "user",
            "content": _TEXTS[flags[i]],
            "style": STYLE,
            "timestamp": table.timestamp[frames.start + i],
        }
        for i in turns
    ]


def read(table: FrameTable, tag: str | None) -> Exchanged:
    """The labels and returns of the dataset's own data files.

    Raises:
        UsageError: E003 when the columns are not there, E302 for rows that say something else.
        DataError: E205 for a flag that is neither 0 nor 1.
    """
    del tag  # the columns have no tag in their names
    found = FrameTable.read(table.root, (RETURN, TERMINAL)).columns
    as_flags(found[TERMINAL], TERMINAL)
    labels: list[bool | None] = []
    for name in table.files:
        with as_lerobot(f"{show(name)}: {language.PERSISTENT}"):
            file = open_parquet(table.root / name, root=table.root)
            for group in range(file.num_row_groups):
                part = file.read_row_group(group, [language.PERSISTENT, "timestamp"])
                times, every = part["timestamp"].to_pylist(), part[language.PERSISTENT].to_pylist()
                labels += [_label(rows, time) for rows, time in zip(every, times, strict=True)]
    bounds = [float(found[RETURN].min()), float(found[RETURN].max())] if len(table) else []
    return labelled("lerobot-recap", table, labels, mc_return=bounds)


def _label(rows: Any, time: float) -> bool | None:
    """The label that holds at a time; None without any."""
    own = [row for row in rows or () if row.get("style") == STYLE and row["timestamp"] <= time]
    if not own:
        return None
    text = max(own, key=lambda row: float(row["timestamp"]))["content"]
    known = {words: label for label, words in _TEXTS.items()}
    if text not in known:
        raise UsageError(
            "E302", f"a row of style {STYLE} says {str(text)[:60]!r}, not {POSITIVE!r} or {NEGATIVE!r}"
        )
    return known[text]
