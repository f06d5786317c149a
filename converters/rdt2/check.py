"""A second look at RDT2 datasets of ours: every sample is read back and counted again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from converters.rdt2 import shards
from converters.rdt2.arms import CHUNK, is_chunk
from converters.rdt2.shards import SIDE, Sample
from vla_data.core.content import content_digest
from vla_data.core.ledger import Record
from vla_data.errors import DataError
from vla_data.media import images
from vla_data.safety.text import show
from vla_data.verification.audit import Audit


@dataclass
class Rdt2Audit(Audit):
    """Read a dataset whole and compare its parts with each other and with its ledger.

    - samples are numbered through, and those of an episode are 24 fewer than its steps that were kept
    - chunks are float32 (24, 20), of rotations; pictures are decoded and of 384 x 768
    - the key of each is that of one instruction, and the content is that of the ledger's digest
    """

    def examine(self) -> None:
        """See `Audit`."""
        tasks = self.read_object(shards.INSTRUCTIONS)
        if tasks is None:
            return
        samples = self._samples()
        number = 0
        for record in self.published():
            wanted = record.frames("kept") - CHUNK
            own = [sample for _, sample in zip(range(wanted), samples, strict=False)]
            for problem in self._problems(own, record, wanted, number, tasks):
                self.blame(shards.FOLDER, problem, record.id)
            self.episodes += 1
            self.frames += record.frames("kept")
            number += wanted
        if (more := sum(1 for _ in samples)) > 0:
            self.blame(shards.FOLDER, f"has {more:,} samples of no episode of the ledger")

    def _samples(self) -> Iterator[Sample]:
        for path in sorted((self.root / shards.FOLDER).glob("shard-*.tar")):
            try:
                yield from shards.read(path, root=self.root)
            except DataError as error:
                self.blame(path.relative_to(self.root).as_posix(), error.message)

    def _problems(
        self, own: list[Sample], record: Record, wanted: int, first: int, tasks: Mapping[str, object]
    ) -> Iterator[str]:
        """What is wrong with an episode."""
        if len(own) != wanted:
            yield f"{len(own):,} samples, not {wanted:,}"
            return
        keys = {sample.key for sample in own}
        task = tasks.get(own[0].key) if len(keys) == 1 else None
        if not isinstance(task, str):
            yield f"its samples have no one instruction in {shards.INSTRUCTIONS}"
            return
        if [sample.number for sample in own] != list(range(first, first + wanted)):
            yield "its samples are not numbered through"
        chunks = []
        for sample in own:
            try:
                chunk = sample.chunk()
                pixels = images.decode(sample.image)
            except DataError as error:
                yield f"sample {sample.number}: {error.message}"
                return
            if (wrong := is_chunk(chunk)) or pixels.shape != (SIDE, 2 * SIDE, 3):
                yield f"sample {sample.number}: its action {wrong or 'is right, its picture'} {show(pixels.shape)}"
                return
            chunks.append(chunk)
        digest = content_digest(task, {"action": np.stack(chunks)}, {"image": [sample.image for sample in own]})
        if digest != record.content_sha256:
            yield "the content is not that of the ledger's digest"
