"""A second look at RDT datasets of ours: every number is read back, checked, and counted again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.rdt import bugs as rdt_bugs
from converters.rdt import config as rdt_config
from converters.rdt import file as rdt_file
from converters.rdt import slots as rdt_slots
from converters.rdt.sample import Rules, first_step
from converters.rdt.sink import FACTS, action_convention, file_name
from vla_data.core import Json
from vla_data.core.content import content_digest
from vla_data.core.ledger import Record
from vla_data.errors import DataError, UsageError
from vla_data.media import images
from vla_data.safety.hdf5 import File
from vla_data.verification.audit import Audit


@dataclass
class RdtAudit(Audit):
    """Read a dataset whole and compare its parts with each other and with its ledger.

    - each of the ledger's episodes is in its file, with the steps that were kept and the ledger's content digest;
      every image is decoded; the file, its folder and the instructions beside it say the same instruction
    - the indicators are the slots of ``rdt.json``, and nothing else is filled
    - RDT's documented checks of units and ranges, and known mistakes: `converters.rdt.bugs.find`
    - ``dataset_stat.json`` is counted again; the control frequency is the schema's; names agree
    """

    _whole: bool = True
    _std: Json = None
    _group: list[rdt_bugs.Pair] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Json]:
        """See `Audit`; where slots 30 to 32 are moves, also their ``action_std`` in metres."""
        counts = super().run()
        return counts if self._std is None else counts | {"action_std": self._std}

    def examine(self) -> None:
        """See `Audit`."""
        facts = self.read_object(FACTS)
        if facts is None:
            return
        try:
            slots = {key: [int(s) for s in facts["slots"][key]] for key in ("state", "action")}
            self._masks = (_mask(slots["state"]), _mask(slots["action"]))
            convention, _ = action_convention(facts)
            self._convention = None if facts["layout"] == "agilex" else convention
            rules = Rules(shortest=int(facts["shortest"]), moves=float(facts["moves"]))
            name = str(facts["dataset_name"])
        except (KeyError, TypeError, ValueError, UsageError, IndexError) as error:
            self.blame(FACTS, f"can't be understood ({type(error).__name__})")
            return
        trained = self._trained(rules)
        first = next(trained, None)
        if first is not None:
            stat = rdt_config.statistics(name, chain([first], trained))
            self._judge()
            if self._whole:  # else they can't be counted again
                self._configs(name, facts, stat)
            if convention.kind == "delta" and convention.size == rdt_slots.SIZE:
                self._std = stat["action_std"][30:33]
        if facts.get("episodes") != self.episodes:
            self.blame(FACTS, f"says {facts.get('episodes')} episodes, but there are {self.episodes:,}")

    def _trained(self, rules: Rules) -> Iterator[rdt_bugs.Pair]:
        """Look at every episode; yields what is trained on of those that can be read."""
        published = self.published()
        places = {path.name: path for path in sorted(self.root.glob("*/episode_*.hdf5"))}
        for number, record in enumerate(published):
            place = places.pop(f"episode_{number:06d}.hdf5", None)
            if place is None:
                self.blame(".", "the episode's file is not there", record.id)
                self._whole = False
                continue
            self.episodes += 1
            where = place.relative_to(self.root).as_posix()
            try:
                found = rdt_file.read(place, root=self.root)
                for problem in self._problems(found, place, number, record):
                    self.blame(where, problem, record.id)
                first = first_step(found.raw, rules)
            except DataError as error:
                self.blame(where, error.message, record.id)
                self._whole = False
                continue
            self._group.append((found.state, found.action))
            if len(self._group) == rdt_bugs.GROUP:
                self._judge()
            yield found.state[first:], found.action[first:]
        for path in places.values():
            self.blame(path.relative_to(self.root).as_posix(), "is not an episode of the ledger")

    def _judge(self) -> None:
        """RDT's documented checks and known mistakes, of the episodes since the last time."""
        pairs, self._group = self._group, []
        if not pairs:
            return
        for bug in rdt_bugs.find(pairs, convention=self._convention, masks=self._masks, fps=self.schema.fps):
            if bug.code not in self._known:
                self.blame(".", f"{bug.code}: {bug.message}")
            self._known.add(bug.code)

    def _problems(self, found: rdt_file.RdtFile, place: Path, number: int, record: Record) -> Iterator[str]:
        """What is wrong with an episode."""
        self.frames += len(found.state)
        kept = record.frames("kept")
        if len(found.state) != kept:
            yield f"{len(found.state):,} steps, but the ledger kept {kept:,} frames"
        task = str(found.facts.get("instruction", ""))
        if found.facts.get("vla_data_id") != record.id:
            yield "vla_data_id is not the ledger's"
        if f"{place.parent.name}/{place.name}" != file_name(number, task):
            yield "the folder is not that of the instruction"
        if any(list(wordings) != [task] for wordings in found.instructions.values()):
            yield f"{rdt_file.INSTRUCTIONS} has another instruction"
        if found.facts.get("control_freq") != self.schema.fps:
            yield f"control_freq is not {self.schema.fps:g}"
        for mask, want in zip((found.state_mask, found.action_mask), self._masks, strict=True):
            if not np.array_equal(mask, want):
                yield f"an indicator is not what {FACTS} says"
        pictures = _encoded(place, self.root, list(found.frames))
        for camera in pictures.values():
            for data in camera:
                images.decode(data)
        action = found.action
        if found.raw.shape[1] != rdt_slots.SIZE:
            action = File(place, root=self.root).top.table("action").read().astype(np.float64)
        digest = content_digest(task, {"action": action, "state": found.raw}, pictures)
        if digest != record.content_sha256:
            yield "the content is not that of the ledger's digest"

    def _configs(self, name: str, facts: Mapping[str, Json], stat: Mapping[str, Json]) -> None:
        want = rdt_config.configs(name, fps=self.schema.fps, cameras=facts.get("cameras", {}), stat=stat)
        for file, content in want.items():
            where = f"{rdt_config.FOLDER}/{file}"
            found = self.read_json(where)
            if found is not None and found != content:
                self.blame(where, "is not what the episodes give")


def _mask(slots: Sequence[int]) -> NDArray[np.bool_]:
    mask = np.zeros(rdt_slots.SIZE, dtype=np.bool_)
    mask[list(slots)] = True
    return mask


def _encoded(place: Path, root: Path, cameras: list[str]) -> dict[str, list[bytes]]:
    """The images as they lie in the file."""
    group = File(place, root=root).top.group("observations")
    if not cameras:
        return {}
    shots = group.group("images")
    return {name: [bytes(row) for row in shots.table(name).read()] for name in cameras}
