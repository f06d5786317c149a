"""``rollout_stats.json`` of ript-vla and of OpenPI-RIPT: the results of every start.

ript-vla has ``{"<init_hash>": [1, 0, ...]}``, OpenPI-RIPT ``{"rollout_stats": {"(0, '<init_hash>')": [1, 0, ...]},
"rollout_skip_cnt": {...}}``, with the number of the task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from vla_data.errors import DataError
from vla_data.files.write import machine_errors, write_file
from vla_data.safety import strict_json
from vla_data.safety.files import MAX_FILE, read_file
from vla_data.safety.text import show

_PAIR: Final = re.compile(r"\((\d{1,9}), '([^'\\]{1,256})'\)")


def write_stats(path: Path, history: Mapping[str, Iterable[bool]]) -> None:
    """Write results by init_hash, as ript-vla reads them.

    Raises:
        MachineError: the file can't be written; what was there still is.
    """
    facts = {init_hash: [int(each) for each in results] for init_hash, results in sorted(history.items())}
    with machine_errors(f"cannot write {show(path.name)}"):
        write_file(path, (json.dumps(facts) + "\n").encode())


def read_stats(path: str | Path, *, task: int | None = None) -> dict[str, list[bool]]:
    """Results by init_hash, of either form.

    Args:
        path: the file.
        task: of OpenPI-RIPT's file, whose starts are meant; None: those of all, which must be different ones.

    Raises:
        DataError: E141, it is neither; E004, two tasks have a start of the same hash.
        OSError: there is none.
    """
    path = Path(path)
    data, _ = read_file(path, root=None, max_bytes=MAX_FILE)
    facts = strict_json.loads(data, name=path.name)
    if not isinstance(facts, dict):
        raise DataError("E141", f"{show(path.name)} is no table of starts")
    if not isinstance(facts.get("rollout_stats"), dict):
        return {init_hash: _results(path, init_hash, results) for init_hash, results in facts.items()}
    out: dict[str, list[bool]] = {}
    for key, results in facts["rollout_stats"].items():
        pair = _PAIR.fullmatch(key)
        if pair is None:
            raise DataError("E141", f"{show(path.name)}: {show(key)} is no task and hash")
        if task is not None and int(pair[1]) != task:
            continue
        if pair[2] in out:
            raise DataError("E004", f"{show(path.name)} has start {show(pair[2])} in two tasks; say which task")
        out[pair[2]] = _results(path, key, results)
    return out


def _results(path: Path, key: str, results: Any) -> list[bool]:
    if not isinstance(results, list) or not all(type(each) in (int, float, bool) for each in results):
        raise DataError("E141", f"{show(path.name)}: the results of {show(key)} are no list of 0 and 1")
    if any(each not in (0, 1) for each in results):
        raise DataError("E141", f"{show(path.name)}: a result of {show(key)} is neither 0 nor 1")
    return [bool(each) for each in results]
