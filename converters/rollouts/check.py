"""A second look at folders of sanitized rollouts."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from vla_data.core import Json, Schema
from vla_data.core.content import content_digest
from vla_data.core.ledger import Ledger
from vla_data.errors import DataError
from vla_data.files.recorded import HEADER, Header
from vla_data.safety import npy
from vla_data.safety.archive import Archive
from vla_data.safety.files import MAX_FILE, read_file
from vla_data.verification.check import Blame


def examine(root: Path, ledger: Ledger, schema: Schema, blame: Blame) -> dict[str, Json]:
    """Read every file and compare what it holds with the ledger's content digests.

    Args:
        root: the folder.
        ledger: its ledger.
        schema: of its first episode; not looked at.
        blame: called for each damage.

    Returns:
        ``episodes`` and ``frames`` that were read.
    """
    waiting: dict[str, list[str]] = defaultdict(list)
    for record in ledger.records:
        if record.status == "published":
            waiting[str(record.content_sha256)].append(record.id)
    episodes = frames = 0
    for path in sorted(root.rglob("*.npz")):
        file = path.relative_to(root).as_posix()
        try:
            digest, steps = _digest(path, root)
        except (DataError, ValueError, KeyError, OSError) as error:
            blame(file, error.message if isinstance(error, DataError) else f"can't be read ({error})")
            continue
        episodes, frames = episodes + 1, frames + steps
        # Files are named after their rollouts, with a number where two would have one name.
        fitting = [name for name in waiting[digest] if file.startswith(name.rsplit(".", 1)[0])]
        if fitting:
            waiting[digest].remove(fitting[0])
        else:
            blame(file, "the content is that of no digest of the ledger, or of another file's")
    for names in waiting.values():
        for name in names:
            blame(".", "an episode is not there as it was written", name)
    return {"episodes": episodes, "frames": frames}


def _digest(path: Path, root: Path) -> tuple[str, int]:
    """Content digest and number of steps of a plain rollout."""
    archive = Archive(read_file(path, root=root)[0], name=path.name, max_bytes=MAX_FILE)
    arrays = {
        name.removesuffix(".npy"): np.asarray(npy.loads(archive.read(name), name=name)) for name in archive.names
    }
    if HEADER in arrays:
        header = Header.from_text(str(arrays[HEADER]))
        return content_digest(header.task, arrays, {}), header.steps
    return content_digest(str(arrays["instruction"]), arrays, {}), len(arrays["action"])
