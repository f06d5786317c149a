"""What RDT2's training makes of a dataset of shards, by its documented steps.

RDT2 (thu-ml/RDT2, ``rdt/dataset.py``) is a research repository that can't be installed. It takes every
``shard-*.tar`` of a folder, decodes ``image.jpg``, ``action.npy`` and ``meta.json``, and looks the instruction up
by ``sub_task_instruction_key``; **one that is not there is an empty text**, without a word.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np

from converters.rdt2 import shards
from converters.rdt2.arms import CHUNK, RATE, WIDEST, is_chunk
from converters.rdt2.shards import SIDE
from vla_data.core import Json
from vla_data.errors import DataError, VerifyError
from vla_data.media import images
from vla_data.safety import strict_json
from vla_data.safety.text import show

_GRIPPERS: Final = [9, 19]


def read_back(folder: Path) -> dict[str, Json]:
    """Open every sample, and say what RDT2 would see.

    Raises:
        VerifyError: E601 for what RDT2 can't train on or would learn wrong: a shard that it can't open, a chunk of
            another shape, a picture of another size, a missing instruction.
    """
    try:
        tasks = strict_json.read(folder / shards.INSTRUCTIONS, root=folder)
        found = sorted((folder / shards.FOLDER).glob("shard-*.tar"))
        if not isinstance(tasks, dict) or not found:
            raise VerifyError("E601", f"RDT2: there is no {shards.FOLDER}/shard-*.tar with {shards.INSTRUCTIONS}")
        counts: Counter[str] = Counter()
        widest, farthest = 0.0, 0.0
        for path in found:
            for sample in shards.read(path, root=folder):
                chunk = _checked(sample, tasks)
                counts[sample.key] += 1
                widest = max(widest, float(chunk[:, _GRIPPERS].max()))
                farthest = max(farthest, float(np.abs(chunk.reshape(CHUNK, 2, 10)[..., :3]).max()))
    except DataError as error:
        raise VerifyError("E601", f"RDT2: {error.message}") from None
    if not counts:
        raise VerifyError("E601", "RDT2: the shards have no samples")
    warnings = []
    if widest > WIDEST:
        warnings.append(f"a gripper opens to {widest:.3f} m; RDT2's normalizer was fitted to {WIDEST} m at most")
    if farthest > 1:
        warnings.append(f"an arm moves {farthest:.2f} m within a chunk of {CHUNK / RATE:g} s: are these metres?")
    lines = [
        f"  RDT2: {counts.total():,} samples in {len(found):,} shards, chunks of {CHUNK / RATE:g} s",
        f"  image uint8 ({SIDE}, {2 * SIDE}, 3): left wrist, right wrist",
        f"  action float32 ({CHUNK}, 20): right arm, left arm",
        f"  farthest motion in a chunk {farthest:.3f} m, widest gripper {widest:.3f} m",
        *(f"    {count:,} x {show(tasks[key])}" for key, count in counts.most_common(5)),
        *(f"  warning: {line}" for line in warnings),
    ]
    return {"samples": counts.total(), "shards": len(found), "warnings": warnings, "lines": lines}


def _checked(sample: shards.Sample, tasks: dict[str, Json]) -> np.ndarray:
    """The chunk of a sample, where all of the sample is as RDT2 wants it."""
    chunk = sample.chunk()
    if wrong := is_chunk(chunk):
        raise VerifyError("E601", f"RDT2: the action of sample {sample.number} {wrong}")
    pixels = images.decode(sample.image)
    if pixels.shape != (SIDE, 2 * SIDE, 3):
        raise VerifyError("E601", f"RDT2: the picture of sample {sample.number} is {pixels.shape}")
    task = tasks.get(sample.key)
    if not isinstance(task, str) or not task.strip():
        raise VerifyError("E601", f"RDT2: {shards.INSTRUCTIONS} has no text for sample {sample.number}")
    return chunk
