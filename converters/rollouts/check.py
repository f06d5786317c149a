"""A second look at folders of sanitized rollouts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_data.core.content import content_digest
from vla_data.errors import DataError
from vla_data.files.write import files_below
from vla_data.recording.recorded import HEADER, Header
from vla_data.safety import npy
from vla_data.safety.archive import Archive
from vla_data.safety.files import MAX_FILE, read_file
from vla_data.verification.audit import Audit


@dataclass
class RolloutAudit(Audit):
    """Read every file and compare what it holds with the ledger's content digests."""

    def examine(self) -> None:
        """See `Audit`."""
        waiting: dict[str, list[str]] = defaultdict(list)
        for record in self.published():
            waiting[str(record.content_sha256)].append(record.id)
        for path in files_below(self.root, ".npz"):
            file = path.relative_to(self.root).as_posix()
            try:
                digest, steps = _digest(path, self.root)
            except (DataError, ValueError, KeyError, OSError) as error:
                self.blame(file, error.message if isinstance(error, DataError) else f"can't be read ({error})")
                continue
            self.episodes, self.frames = self.episodes + 1, self.frames + steps
            # Files are named after their rollouts, with a number where two would have one name.
            fitting = [name for name in waiting[digest] if file.startswith(name.rsplit(".", 1)[0])]
            if fitting:
                waiting[digest].remove(fitting[0])
            else:
                self.blame(file, "the content is not that of the ledger's digest for this file")
        for names in waiting.values():
            for name in names:
                self.blame(".", "an episode is not there as it was written", name)


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
