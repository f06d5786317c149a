"""Small RLDS datasets of any odd shape, written as TFDS lays them out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.rlds import tfds_json, tfrecord
from converters.rlds.source import RldsSource

STEPS = 4
Fields = Mapping[str, Any]


def numbers(width: int, shift: float = 0) -> np.ndarray[Any, Any]:
    """``(STEPS, width)`` float32 that say which they are."""
    return (np.arange(STEPS)[:, None] * 8 + np.arange(width) + shift).astype(np.float32)


def write(root: Path, step: Fields, values: Fields, *, whole: Fields | None = None) -> Path:
    """Write a dataset of one episode; the version folder.

    Args:
        root: a new folder.
        step: name below ``steps`` -> feature, beside ``is_first`` and ``is_last``; a dictionary is a folder.
        values: path below ``steps``, or in the record -> values of all steps.
        whole: name -> feature of the episode.
    """
    always = {name: tfds_json.scalar("bool") for name in ("is_first", "is_last")}
    tree = tfds_json.folder({"steps": tfds_json.steps(_folder({**always, **step})), **(whole or {})})
    folder = root / "toy/1.0.0"
    folder.mkdir(parents=True)
    at = np.arange(STEPS)
    fields = {"steps/is_first": at == 0, "steps/is_last": at == STEPS - 1}
    for path, value in values.items():
        fields[path if whole and path.split("/")[0] in whole else f"steps/{path}"] = value
    record = tfrecord.frame(tfrecord.example({path: _plain(value) for path, value in sorted(fields.items())}))
    (folder / "toy-train.tfrecord-00000-of-00001").write_bytes(b"".join(map(bytes, record)))
    (folder / "features.json").write_text(json.dumps(tree))
    split = {"name": "train", "shardLengths": ["1"], "numBytes": "1"}
    (folder / "dataset_info.json").write_text(json.dumps({"name": "toy", "version": "1.0.0", "splits": [split]}))
    return folder


def source(folder: Path, **options: Any) -> RldsSource:
    """A source of such a dataset, with a rate and an instruction unless ``options`` say another."""
    return RldsSource(root=folder, **{"fps": 5, "task": "pick", **options})


def _folder(step: Fields) -> Any:
    return tfds_json.folder({k: v if "pythonClassName" in v else _folder(v) for k, v in step.items()})


def _plain(value: Any) -> Any:
    """Byte strings as they are, floats as float32, everything else as int64."""
    if isinstance(value, Sequence):
        return list(value)
    return value.astype(np.float32 if value.dtype.kind == "f" else np.int64)
