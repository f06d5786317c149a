"""The JSON sidecar of zhhhming/lerobot_recap: one entry a frame, with its label.

    {"version": 1, "label": "advantage:positive", "positive_percentile": 70.0, "threshold": 0.0012, "num_frames":
     2, "datasets": [...], "entries": [{"dataset_index": 0, "repo_id": "x", "index": 0, "episode_index": 0,
     "target_value": -0.0025, "value": -0.004, "advantage": 0.0015, "positive": true}, ...]}

There the advantage is Monte-Carlo and positive means above the threshold; here they are what the annotation has,
and ``positive`` is what counts. With thresholds of tasks ``threshold`` is null. The project names the file on its
command line; ours is ``meta/advantages_<tag>.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from vla_data.advantages.annotation import Annotation
from vla_data.advantages.format import Exchanged, Written, batches, file_of, need_labels, need_tag, plain
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.join import cover, place
from vla_data.core import Json
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file

_NUMBERS: Final = ("target_value", "value", "advantage")


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written."""
    return (f"meta/advantages_{tag}.json",)


def write(annotation: Annotation, table: FrameTable) -> Written:
    """All frames."""
    need_labels(annotation, "frame-labels")
    thresholds = annotation.thresholds
    bound = thresholds["bounds"]["all"] if thresholds and not thresholds["per_task"] else None
    wanted = annotation.provenance.get("wanted_share")
    name = table.root.resolve().name
    head: dict[str, Json] = {
        "version": 1,
        "label": "advantage:positive",
        "positive_percentile": None if wanted is None else 100 * (1 - wanted),
        "threshold": bound and bound["epsilon"],
        "num_frames": len(table),
        "datasets": [{"dataset_index": 0, "repo_id": name, "num_frames": len(table)}],
    }
    return Written(files={files(annotation.tag)[0]: _text(head, name, annotation, table)})


def _text(head: dict[str, Json], name: str, annotation: Annotation, table: FrameTable) -> Iterator[bytes]:
    yield (json.dumps(head)[:-1] + ', "entries": [').encode()
    target = annotation.returns / annotation.normalizers
    columns = (table.index, table.episode_index, target, annotation.values, annotation.advantages)
    repo, comma = json.dumps(name), ""
    for rows in batches(len(table)):
        lines = [
            f'{{"dataset_index": 0, "repo_id": {repo}, "index": {i}, "episode_index": {e}, "target_value": {g!r}, '
            f'"value": {v!r}, "advantage": {a!r}, "positive": {"true" if p else "false"}}}'
            for i, e, g, v, a, p in zip(
                *(plain(column[rows]) for column in columns), plain(need_labels(annotation, "")[rows]), strict=True
            )
        ]
        yield (comma + "\n" + ",\n".join(lines)).encode()
        comma = ","
    yield b"\n]}\n"


def read(table: FrameTable, tag: str | None) -> Exchanged:
    """The entries of the first dataset of a tag's file, matched by ``index``; it has no frame numbers.

    Raises:
        UsageError: E001 without a tag, E003 without the file, E302 when it is something else.
    """
    (name,) = files(need_tag(tag, "frame-labels"))
    try:
        found = strict_json.loads(read_file(file_of(table.root, name), root=table.root)[0], name=name)
    except DataError as error:
        raise UsageError("E302", f"{name}: {error.message}") from None
    entries = found.get("entries") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise UsageError("E302", f"{name} has no entries")
    try:
        several = {entry["dataset_index"] for entry in entries}
        index = np.array([entry["index"] for entry in entries])
        episode = np.array([entry["episode_index"] for entry in entries])
        columns: dict[str, Any] = {
            key: np.array([entry[key] for entry in entries], dtype=np.float64) for key in _NUMBERS
        }
        positive = np.array([entry["positive"] for entry in entries])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError("E302", f"{name} has an entry without a valid {error}") from None
    if len(several) > 1:
        raise UsageError("E302", f"{name} holds {len(several)} datasets, not one")
    if entries and (positive.dtype != np.bool_ or index.dtype.kind != "i" or episode.dtype.kind != "i"):
        raise UsageError("E302", f"{name} needs whole numbers as indices and true or false as labels")
    bad = sum(int(np.count_nonzero(~np.isfinite(values))) for values in columns.values())
    if bad:
        raise UsageError("E302", f"{name}: {bad:,} numbers are not finite")
    order = np.argsort(table.index, kind="stable")
    at = np.clip(np.searchsorted(table.index[order], index), 0, len(order) - 1)
    row = order[at]
    rows = np.where((table.index[row] == index) & (table.episode_index[row] == episode), row, -1)
    return Exchanged(
        layout="frame-labels",
        files=(name,),
        coverage=cover(table, rows),
        advantages=place(rows, columns["advantage"], len(table)),
        values=place(rows, columns["value"], len(table)),
        positive=place(rows, positive, len(table)) if entries else None,
        facts={key: found.get(key) for key in ("version", "label", "positive_percentile", "threshold")},
    )
