"""A second look at datasets of ours in robomimic's layout, without the code that wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from converters.robomimic.names import DERIVED, ID, masks_of, name_of
from converters.robomimic.rows import Rows
from vla_data.core import Array
from vla_data.core.content import content_digest
from vla_data.core.ledger import Record
from vla_data.errors import DataError
from vla_data.safety import hdf5
from vla_data.safety.hdf5_heaps import check_heaps
from vla_data.safety.text import show
from vla_data.verification.audit import Audit

FILE: Final = "dataset.hdf5"
# HDF5 keeps what it knows of every dataset that was read until the file is closed.
_AT_ONCE: Final = 64


@dataclass
class RobomimicAudit(Audit):
    """Read a dataset whole and compare its parts with each other and with its ledger.

    - the checksum of every chunk
    - ``demo_0``, ``demo_1``, ... are the ledger's episodes in their order, ``num_samples`` is the rows of each of
      their datasets, ``total`` the sum of them; no episode has fewer steps than were kept
    - each demo has the features of the schema, of their types and sizes, and the content digest of the ledger
    - ``env_args`` says the schema's rate
    - masks name demos that are there, each once; an episode is in those of its split and its source's, no others
    """

    def examine(self) -> None:
        """See `Audit`."""
        try:
            self._examine()
        except (DataError, KeyError, TypeError, ValueError) as error:
            self.blame(
                FILE, error.message if isinstance(error, DataError) else f"can't be understood ({show(error)})"
            )

    def _examine(self) -> None:
        check_heaps(self.root / FILE, root=self.root)
        published = self.published()
        published.sort(key=lambda record: record.output_index or 0)
        records = {f"demo_{number}": record for number, record in enumerate(published)}
        for some in _batches(list(records.items())):
            with self._open() as top:
                data = top.group("data")
                for name, record in some:
                    self._demo(data, name, record)
        with self._open() as top:
            data = top.group("data")
            if set(data.names()) != records.keys():
                self.blame(FILE, f"has {len(data):,} demos, not demo_0 to demo_{len(records) - 1}")
            about = data.attributes()
            if about.get("total") != self.frames:
                self.blame(FILE, f"total is {show(about.get('total'))}, not {self.frames:,}")
            self._rate("data", about.get("env_args"))
            self._masks(top, records)

    @contextmanager
    def _open(self) -> Iterator[hdf5.Group]:
        file = hdf5.File(self.root / FILE, root=self.root)
        try:
            yield file.top
        finally:
            file.close()

    def _demo(self, data: hdf5.Group, name: str, record: Record) -> None:
        try:
            for problem in self._problems(data.group(name), record):
                self.blame(FILE, f"{name} {problem}", record.id)
        except DataError as error:
            self.blame(FILE, f"{name}: {error.message}", record.id)

    def _problems(self, demo: hdf5.Group, record: Record) -> Iterator[str]:
        """What is wrong with an episode."""
        self.episodes += 1
        own = demo.attributes()
        tables = dict(_tables(demo))
        length = len(tables["actions"]) if "actions" in tables else 0
        self.frames += length
        if own.get(ID) != record.id:
            yield f"says that it is {show(own.get('vla_data_id'))}"
        if own.get("num_samples") != length or any(len(table) != length for table in tables.values()):
            yield f"says num_samples {show(own.get('num_samples'))}, but a dataset has another number of rows"
        if length < record.frames("kept"):
            yield f"has {length:,} steps, but the ledger kept {record.frames('kept'):,} frames"
        if "env_args" in own:
            self._rate(demo.path, own["env_args"])
        arrays: dict[str, Array] = {}
        images: dict[str, Rows] = {}
        sizes: dict[str, tuple[int, ...]] = {}
        for path, table in tables.items():
            if DERIVED in table.attributes():
                table.read()  # for its checksums
            elif (
                table.kind == "number"
                and table.dtype == np.uint8
                and len(table.shape) == 4
                and table.shape[3] == 3
            ):
                sizes[name_of(path, images=True)] = table.shape[1:]
                images[name_of(path, images=True)] = Rows(len(table), partial(_row, table))
            else:
                arrays[name_of(path, images=False)] = _values(table)
        yield from self._unlike(arrays, sizes)
        if content_digest(_instruction(own), arrays, images) != record.content_sha256:
            yield "has another content than that of the ledger's digest"

    def _unlike(self, arrays: Mapping[str, Array], images: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """Features that are not as the schema has them; it need not have all, and the digest is of all."""
        for name, feature in self.schema.features.items():
            if feature.dtype == "image":
                if name not in images or images[name] != feature.shape:
                    yield f"has no images of {feature.shape} as {show(name)}"
            elif name not in arrays or (arrays[name].shape[1:] or (1,)) != feature.shape:
                yield f"has no {show(name)} of {feature.shape}"
            elif arrays[name].dtype.kind != "U" and str(arrays[name].dtype) != feature.dtype:
                yield f"has {show(name)} as {arrays[name].dtype}, not {show(feature.dtype)}"

    def _rate(self, where: str, text: Any) -> None:
        try:
            rate = json.loads(text)["env_kwargs"]["control_freq"]
        except (ValueError, KeyError, TypeError, RecursionError):
            rate = None
        if rate != self.schema.fps:
            self.blame(FILE, f"env_args of {show(where)} has control_freq {show(rate)}, not {self.schema.fps:g}")

    def _masks(self, top: hdf5.Group, records: Mapping[str, Record]) -> None:
        masks = {}
        if "mask" in top:
            group = top.group("mask")
            masks = {key: group.table(key).texts() for key in group.names()}
        for key, names in masks.items():
            if len(set(names)) != len(names) or not set(names) <= records.keys():
                self.blame(FILE, f"mask {show(key)} names a demo twice or one that is not there")
        told = {name: set(masks_of(record.meta)[0]) for name, record in records.items()}
        known = set().union(*told.values(), *(masks_of(record.meta)[1] for record in records.values()))
        for key in sorted(known - masks.keys()):
            self.blame(FILE, f"has no mask {show(key)}")
        for name, record in records.items():
            if {key for key, names in masks.items() if key in known and name in names} != told[name]:
                self.blame(FILE, f"{name} is not in the masks that the ledger has it in", record.id)


def _row(table: hdf5.Table, i: int) -> Array:
    return table.read(i, i + 1)


def _batches(items: Sequence[tuple[str, Record]]) -> Iterator[Sequence[tuple[str, Record]]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


def _tables(demo: hdf5.Group) -> Iterator[tuple[str, hdf5.Table]]:
    """Every dataset below a demo by its path; a group that is there twice is a cycle or a copy, and is refused."""
    seen: set[tuple[int, int]] = set()

    def walk(group: hdf5.Group, path: str) -> Iterator[tuple[str, hdf5.Table]]:
        if group.key in seen:
            raise DataError("E106", f"{show(group.path)} is there twice")
        seen.add(group.key)
        for name in group.names():
            item = group[name]
            if isinstance(item, hdf5.Table):
                yield path + name, item
            else:
                yield from walk(item, f"{path}{name}/")

    yield from walk(demo, "")


def _values(table: hdf5.Table) -> Array:
    if table.kind != "text":
        return table.read()
    decode: Callable[[Any], str] = np.vectorize(lambda row: hdf5.decode(row, show(table.path)), otypes=[object])
    return np.asarray(decode(table.read()), dtype=np.str_)


def _instruction(attributes: Mapping[str, Any]) -> str:
    try:
        return str(json.loads(attributes["ep_meta"])["lang"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
