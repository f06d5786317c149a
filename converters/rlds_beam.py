"""The records of `RldsSink`, put into shards by TFDS's own Beam writer.

What is read, curated and encoded, the dataset's metadata and the order of its records are as without it: TFDS gets
places in that order for keys, and decides about shards alone.

TFDS's writer moves every record through a shuffle, keeps one shard (up to 1 GB) in a worker's memory, and starts
again from the first record after a kill. Where a runner is known to lose data with it, it is not used.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import StandardOptions

from converters.rlds import tfds_json as tfds_files
from converters.rlds import tfrecord
from converters.rlds.sink import RldsSink, digest_of
from vla_data.core import Published
from vla_data.errors import DataError, MachineError, UsageError, VerifyError
from vla_data.files.write import machine_errors
from vla_data.jobs.beam.engine import open_pipeline, read_options, run_beam
from vla_data.safety.text import show

UNSOUND: Final = {"dask": "it fails there, and Beam's Dask runner may lose its side outputs without a word"}
"""Words in a runner's name -> why TFDS's writer is not used on it."""
TESTED: Final = ("FnApiRunner", "DirectRunner", "PortableRunner")
"""Runners on which it is tested to write all that we give it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class TfdsBeamWriter(RldsSink):
    """`RldsSink` with TFDS's own Beam writer.

    Attributes:
        options: Beam's, as on a command line.
    """

    options: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        """The same provenance: what a dataset holds does not depend on who cut its shards."""
        return super().__repr__().replace(type(self).__qualname__, RldsSink.__qualname__, 1)

    def check_runner(self) -> str | None:
        """A warning about the runner, or None.

        Raises:
            UsageError: E001 for options that Beam does not take, and for runners on which the writer is not sound.
        """
        runner = str(read_options(self.options).view_as(StandardOptions).runner)
        for word, why in UNSOUND.items():
            if word in runner.lower():
                other = "vla-data build ppo_sft_aligned --engine beam writes there"
                raise UsageError("E001", f"TFDS's Beam writer is not used on {show(runner)}: {why}; {other}")
        open_pipeline(self.options)
        if runner.rpartition(".")[2] not in TESTED:
            return f"TFDS's Beam writer is not tested on {show(runner)}"
        return None

    def write_split(self, folder: Path, name: str, members: Sequence[Published]) -> tfds_files.Split:
        """Have TFDS write one split; see `RldsSink`."""
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=self.name, split=name, filetype_suffix="tfrecord"
        )
        writer = tfds.core.writer.BeamWriter(
            serializer=_Serialized(),
            filename_template=template,
            hash_salt=name,
            disable_shuffling=True,  # by key, as they are
            example_writer=tfds.core.writer.ExampleWriter(tfds.core.FileFormat.TFRECORD),
            shard_config=tfds.core.utils.shard_utils.ShardConfig(num_shards=self.num_shards),
        )
        records = [(place, episode.read) for place, episode in enumerate(members)]
        error = run_beam(self.options, functools.partial(_write, records, writer))
        if error is not None:
            last = (str(error).splitlines() or [""])[-1]
            raise MachineError("E703", f"TFDS's Beam writer: {show(last)}") from error
        lengths, size = writer.finalize()
        return tfds_files.Split(name, size, tuple(lengths))

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read every record back, with its checksums, and compare it with what was encoded."""
        for name, members in self._splits(episodes).items():
            found: list[str] = []
            for file in sorted(folder.glob(f"{self.name}-{name}.tfrecord-*")):
                with machine_errors("cannot read back"), file.open("rb") as handle:
                    try:
                        found.extend(digest_of(data) for data in tfrecord.records(handle, name=file.name))
                    except DataError as error:
                        raise VerifyError("E601", error.message) from None
            if found != [episode.blob_sha256 for episode in members]:
                raise VerifyError("E601", f"{name} does not hold the episodes that were written")


class _Serialized:
    """TFDS's serializer for what is serialized already."""

    example_specs: Any = None

    def serialize_example(self, example: bytes) -> bytes:
        return example


def _record(place: int, read: Callable[[], bytes]) -> tuple[int, bytes]:
    (data,) = tfrecord.records(io.BytesIO(read()), name=f"record {place}")
    return place, bytes(data)


def _write(records: list[tuple[int, Callable[[], bytes]]], writer: Any, pipeline: Any) -> None:
    read = (
        pipeline
        | "Episodes" >> beam.Create(records)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.MapTuple(_record)
    )
    _ = read | "Write" >> beam.ptransform_fn(lambda found: writer.write_from_pcollection(found))()
