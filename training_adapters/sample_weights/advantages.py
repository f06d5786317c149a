"""``sample_weights.parquet``: a weight a frame (huggingface/lerobot#4222, which no release has).

Columns ``index`` int64 and ``weight`` float32. The weight is 1 where an annotation's label is positive and 0
elsewhere; without labels it is that of advantage-weighted regression, ``min(exp(A / beta), 20)`` with the standard
deviation of the advantages as ``beta``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from vla_data.advantages.annotation import Annotation, parquet_bytes
from vla_data.advantages.format import Exchanged, Written, file_of, need_counted
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.join import cover
from vla_data.advantages.losses import awr_weights
from vla_data.advantages.numbers.flat import Floats
from vla_data.errors import UsageError
from vla_data.files import arrow
from vla_data.files.tables import MAX_BYTES, check_rows, open_parquet, read_groups

FILE: Final = "sample_weights.parquet"


def write(annotation: Annotation, table: FrameTable) -> Written:
    """All frames; ``facts`` has the rule, and the share of the frames that weigh anything.

    Raises:
        UsageError: E302 when ``index`` is not 0, 1, 2, ... over the dataset: frames are looked up by it.
    """
    need_counted(table, FILE)
    beta = float(annotation.advantages.std()) or 1.0
    weights: Floats = (
        annotation.positive.astype(np.float64)
        if annotation.positive is not None
        else np.asarray(awr_weights(annotation.advantages, beta=beta))
    )
    found = arrow.table({"index": table.index, "weight": weights.astype(np.float32)})
    rule = {"rule": "positive"} if annotation.positive is not None else {"rule": "awr", "beta": beta}
    share = float(np.count_nonzero(weights) / max(len(weights), 1))
    return Written(files={FILE: parquet_bytes(found)}, facts={**rule, "weighted_share": share})


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written."""
    del tag  # there is one file a dataset
    return (FILE,)


def read(table: FrameTable, tag: str | None = None) -> Exchanged:
    """The file's weights, as labels: whether a frame weighs anything.

    Raises:
        UsageError: E003 without the file, E302 when it is something else.
    """
    del tag  # there is one file a dataset
    try:
        file = open_parquet(file_of(table.root, FILE), root=table.root)
        check_rows(file.metadata, table.root / FILE)
        found = read_groups(file, range(file.num_row_groups), columns=["index", "weight"], max_bytes=MAX_BYTES)
        index, weight = arrow.to_numpy(found["index"]), arrow.to_numpy(found["weight"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UsageError("E302", f"{FILE} can't be read ({type(error).__name__})") from None
    if index.dtype.kind not in "iu" or weight.dtype.kind != "f" or not (np.isfinite(weight) & (weight >= 0)).all():
        raise UsageError("E302", f"{FILE} has no whole numbers index and no weights of 0 or more")
    order = np.argsort(table.index, kind="stable")
    at = np.clip(np.searchsorted(table.index[order], index), 0, len(order) - 1)
    rows = np.where(table.index[order][at] == index, order[at], -1)
    positive = np.zeros(len(table), dtype=np.bool_)
    positive[rows[rows >= 0]] = weight[rows >= 0] > 0
    return Exchanged(layout="sample-weights", files=(FILE,), coverage=cover(table, rows), positive=positive)
