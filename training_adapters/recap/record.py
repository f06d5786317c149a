"""What a stage was made of: the digests of its inputs, beside what it made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training_adapters.stored import fitting, read_json
from vla_data.advantages.frame_table import FrameTable
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.files.sums import hash_tree
from vla_data.files.write import machine_errors, write_file
from vla_data.safety.text import show

Digests = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """A stage that is done, or not.

    Attributes:
        path: its JSON file.
        stage: its name, as on the command line.
    """

    path: Path
    stage: str

    def read(self) -> dict[str, Any] | None:
        """What it says; None where the stage was not done."""
        if not self.path.is_file():
            return None
        facts = read_json(self.path, root=self.path.parent)
        with fitting(show(self.path)):
            return facts | {"inputs": dict(facts.get("inputs", {}))}

    def facts(self, inputs: Digests) -> dict[str, Any] | None:
        """What it says, if it was made of these inputs; None where the stage was not done.

        Raises:
            UsageError: E301, it was made of others.
        """
        found = self.read()
        if found is None:
            return None
        had = found["inputs"]
        other = sorted(name for name in {*had, *inputs} if had.get(name) != inputs.get(name))
        if other:
            was, now = (show(str(one.get(other[0], "none")))[:12] for one in (had, inputs))
            raise UsageError(
                "E301", f"{self.stage} was made of {other[0]} {was}, and now it is {now}: begin another --exp-name"
            )
        return found

    def need(self, inputs: Digests) -> dict[str, Any]:
        """`facts` of a stage that must have been done.

        Raises:
            UsageError: E003, it was not; E301, it was made of other inputs.
        """
        found = self.facts(inputs)
        if found is None:
            raise UsageError("E003", f"{show(self.path.parent)} has no {self.stage}: vla-train recap {self.stage}")
        return found

    def write(self, inputs: Digests, facts: Mapping[str, Json]) -> dict[str, Any]:
        """Say that the stage is done."""
        whole = {"stage": self.stage, "inputs": dict(inputs), **facts}
        with machine_errors(f"cannot write {show(self.path.name)}"):
            write_file(self.path, (json.dumps(whole, indent=2, sort_keys=True) + "\n").encode())
        return whole


def checkpoint_digest(folder: Path) -> str:
    """Of a checkpoint's parameters and of what it is; not of what its training goes on from."""
    with machine_errors(f"cannot read {show(folder)}"):
        return hash_tree(folder, without=("train_state",))


def dataset_digest(root: Path) -> str:
    """Of a LeRobot dataset's content."""
    return str(FrameTable.read(root).digest()["sha256"])
