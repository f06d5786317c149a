"""The table of subtasks of lerobot 0.4.4 (``meta/subtasks.parquet``), to which ``subtask_index`` refers.

Its reader gives each frame the text as ``subtask``. Later versions know neither, so the texts are what is kept: as
the feature ``subtask``, which every format holds and which needs no table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from converters.lerobot.files import Files
from converters.lerobot.places import whole_numbers
from vla_data.core import Array
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

FILE: Final = "meta/subtasks.parquet"
INDEX: Final = "subtask_index"
TEXT: Final = "subtask"


def read(files: Files) -> Mapping[int, str]:
    """Number -> text; empty without such a table.

    Raises:
        UsageError: E141, it is there and is no such table.
    """
    if not (files.root / FILE).is_file():
        return {}
    table = files.parquet(FILE, lambda _: True)
    text = next((name for name in (TEXT, "__index_level_0__") if name in table.column_names), None)
    try:
        numbers = whole_numbers(table[INDEX].to_pylist())
        found: dict[int, Any] = dict(zip(numbers, table[text or TEXT].to_pylist(), strict=True))
    except (KeyError, TypeError, ValueError):
        raise UsageError("E141", f"{FILE} is no list of {INDEX} and {TEXT}") from None
    if len(found) != len(table) or not all(isinstance(item, str) and "\0" not in item for item in found.values()):
        raise UsageError("E141", f"{FILE} has not a text for each of different numbers")
    return found


def texts(numbers: Array, table: Mapping[int, str]) -> Array:
    """``(T,)``: the text of each number.

    Raises:
        DataError: E206 for a number that has none.
    """
    listed = numbers.reshape(-1).tolist()
    if missing := [number for number in listed if number not in table]:
        raise DataError("E206", f"{INDEX} is {show(missing[0])[:40]}, which {FILE} does not have")
    return np.asarray([table[number] for number in listed], dtype=np.str_)
