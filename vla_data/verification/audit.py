"""What the examiners of all formats share: a dataset of ours is read whole and compared with its ledger.

An examiner shares no code with the writer of its format: files are read as a stranger's are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_data.core import Json, Schema
from vla_data.core.ledger import Ledger, Record
from vla_data.errors import DataError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file

Blame = Callable[..., None]
"""``blame(file, problem, *episodes)``: how an examiner reports."""


@dataclass
class Audit:
    """One examination.

    Attributes:
        root: the dataset.
        ledger: its ledger.
        schema: its schema.
        blame: called for each damage.
        episodes: how many were read.
        frames: how many were read.
    """

    root: Path
    ledger: Ledger
    schema: Schema
    blame: Blame
    episodes: int = 0
    frames: int = 0

    def run(self) -> dict[str, Json]:
        """Examine everything; returns what was read, ``episodes`` and ``frames`` at least."""
        self.examine()
        return {"episodes": self.episodes, "frames": self.frames}

    def examine(self) -> None:
        """Read the dataset and blame what is wrong with it."""
        raise AssertionError("each format has its own")

    def published(self) -> list[Record]:
        """The ledger's published episodes, in its order."""
        return [record for record in self.ledger.records if record.status == "published"]

    def read_json(self, name: str) -> Json:
        """What a file of JSON below the root says; None, and a blame, where it can't be read."""
        try:
            return strict_json.loads(read_file(self.root / name, root=self.root)[0], name=name)
        except DataError as error:
            self.blame(name, f"can't be read ({error.message})")
            return None

    def read_object(self, name: str) -> dict[str, Any] | None:
        """The object of a file of JSON; None, and a blame, where there is none."""
        value = self.read_json(name)
        if value is None or isinstance(value, dict):
            return value
        self.blame(name, "can't be read (it is not a JSON object)")
        return None
