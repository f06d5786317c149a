"""A second look at TFDS datasets of ours, without TensorFlow and without the code that wrote them: records are
read as those of a stranger's dataset are, by `converters.rlds.example` and `converters.rlds.values`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from converters.rlds import example, tfrecord
from converters.rlds import features as rlds_features
from converters.rlds import fields as rlds_fields
from converters.rlds import names as rlds_names
from converters.rlds import own as rlds_own
from converters.rlds import values as rlds_values
from converters.rlds.features import Leaf
from vla_data.core import Array, Schema
from vla_data.core.content import content_digest
from vla_data.core.ledger import Record
from vla_data.errors import DataError, UsageError
from vla_data.files.folders import FEATURES, INFO
from vla_data.media import images
from vla_data.safety.files import open_binary
from vla_data.safety.text import show
from vla_data.verification.audit import Audit

_OBSERVATION: Final = "steps/observation/"
_TASK: Final = "steps/language_instruction"
_FIRST: Final = "steps/is_first"
_LAST: Final = "steps/is_last"
_SOURCE_METADATA: Final = f"episode_metadata/{rlds_fields.SOURCE_METADATA}"

Value = list[bytes] | Array


@dataclass
class RldsAudit(Audit):
    """Read a dataset whole and compare its parts with each other and with its ledger.

    - TFRecord checksums; ``dataset_info.json`` has each shard's number of records and each split's bytes
    - every record is an Example with the features that ``features.json`` declares, of the declared sizes
    - each of the ledger's episodes is there once, in its split and in its order, with the steps that were kept,
      and has the ledger's content digest; every image is decoded and has the declared size
    - with all fields of RLDS: ``is_first`` and ``is_last`` follow from the position; ``is_terminal``, ``reward``
      and ``discount`` are by their rules where the episodes had none; the source's facts are those of the ledger
    """

    _seen: dict[str, None] = field(default_factory=dict)

    def examine(self) -> None:
        """See `Audit`."""
        info = self.read_object(INFO) or {}
        tree = self.read_object(FEATURES) or {}
        try:
            self._declared = {leaf.path: leaf for leaf in rlds_features.leaves(tree)}
        except UsageError as error:
            self.blame(FEATURES, error.message)
            self._declared = {}
        self._want = {record.id: record for record in self.published()}
        splits: list[str] = []
        try:
            for split in info.get("splits", ()):
                splits.append(str(split["name"]))
                self._split(str(info["name"]), splits[-1], split)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            self.blame(INFO, f"can't be understood ({type(error).__name__})")
        if sorted(splits) != sorted({str(record.split) for record in self._want.values()}):
            self.blame(INFO, f"has splits {show(', '.join(splits))}, not those of the ledger")
        if info.get("version") != self.root.resolve().name and self.root.resolve().name.count(".") == 2:
            self.blame(INFO, f"version is {show(info.get('version'))}, not that of the folder")
        if missing := [name for name in self._want if name not in self._seen]:
            self.blame(".", f"{len(missing):,} episodes are not there", *missing)

    def _split(self, dataset: str, split: str, facts: Mapping[str, Any]) -> None:
        lengths = [int(n) for n in facts["shardLengths"]]
        size = 0
        order: list[str] = []
        for number, length in enumerate(lengths):
            file = f"{dataset}-{split}.tfrecord-{number:05d}-of-{len(lengths):05d}"
            count = 0
            try:
                with open_binary(self.root / file, root=self.root) as handle:
                    for data in tfrecord.records(handle, name="the shard"):
                        count += 1
                        size += len(data)
                        order.extend(self._record(file, split, data))
            except DataError as error:
                self.blame(file, error.message)
            except OSError as error:
                self.blame(file, f"can't be read ({error.strerror})")
            if count != length:
                self.blame(INFO, f"says {length:,} records in {file}, but there are {count:,}")
        if int(facts["numBytes"]) != size:
            self.blame(INFO, f"numBytes of {split} is {show(facts['numBytes'])}, not {size:,}")
        wanted = sorted(order, key=rlds_own.order)
        if moved := [name for name, other in zip(order, wanted, strict=True) if name != other]:
            self.blame(".", f"records of {split} are not in their order", *moved)

    def _record(self, file: str, split: str, data: bytes) -> Iterator[str]:
        """Check one record; yields the id of its episode, if it has a known one."""
        try:
            found = example.parse(data)
            name = _text(found["episode_metadata/file_path"])
        except (ValueError, KeyError, DataError):
            self.blame(file, f"record {self.episodes} is not an episode")
            return
        finally:
            self.episodes += 1
        record = self._want.get(name)
        if record is None or name in self._seen:
            self.blame(file, "an episode that is there twice" if record else "an episode that is not ours", name)
            return
        self._seen[name] = None
        if record.split != split:
            self.blame(file, f"is in {split}, not in {record.split}", name)
        try:
            for problem in self._problems(record, found):
                self.blame(file, problem, name)
        except DataError as error:
            self.blame(file, error.message, name)
        except (ValueError, KeyError) as error:
            self.blame(
                file,
                f"is not the Example that was declared ({type(error).__name__} {show(error, escaped=True)})",
                name,
            )
        yield name

    def _problems(self, record: Record, found: rlds_values.Record) -> Iterator[str]:
        """What is wrong with an episode."""
        texts = found[_TASK].strings()
        n = len(texts)
        self.frames += n
        kept = record.frames("kept")
        if n != kept:
            yield f"{n:,} steps, but the ledger kept {kept:,} frames"
        whole = True
        for leaf in self._declared.values():
            for problem in _leaf_problems(leaf, found, n):
                whole = False
                yield problem
        yield from _metadata_problems(record, found, n)
        if not whole or n == 0:
            return
        values = {leaf.path: _read(leaf, found, n) for leaf in self._declared.values() if leaf.in_steps}
        if _FIRST not in values:
            pictures = {
                path.removeprefix(_OBSERVATION): value for path, value in values.items() if isinstance(value, list)
            }
            action = np.asarray(values["steps/action"])
            digest = content_digest(bytes(texts[0]).decode(), {"action": action}, pictures)
        else:
            yield from _step_problems(values, self.schema, n, record)
            yield from self._fact_problems(record, found)
            digest = content_of(values, self.schema).digest()
        if digest != record.content_sha256:
            yield "the content is not that of the ledger's digest"

    def _fact_problems(self, record: Record, found: rlds_values.Record) -> Iterator[str]:
        """What the source said of the episode, against the ledger."""
        want = record.meta.episode_metadata or {}
        if json.loads(_text(found[_SOURCE_METADATA])) != want:
            yield "source_metadata is not what the ledger has"
        types = record.meta.episode_metadata_types
        for name, dtype in types.items():
            leaf = self._declared.get(f"episode_metadata/{rlds_fields.fact_key(name)}")
            if leaf is not None and leaf.dtype == dtype and rlds_values.fact(leaf, found) != want[name]:
                yield f"{show(leaf.path)} is not what the ledger has"


def content_of(values: Mapping[str, Value], schema: Schema) -> rlds_fields.Content:
    """The values of a record with all fields of RLDS, as far as the episode had them, under our names.

    Args:
        values: path of a feature -> a camera's encoded images, or an array of anything else.
        schema: of the dataset.
    """
    cameras = [name for name, feature in schema.features.items() if feature.dtype == "image"]
    arrays: dict[str, Array] = {}
    texts: dict[str, list[bytes]] = {}
    pictures: dict[str, list[bytes]] = {}
    for path, value in values.items():
        if path in (_TASK, _FIRST, _LAST):
            continue
        name = rlds_names.name_of(path.removeprefix("steps/"), is_camera=isinstance(value, list))
        if name in rlds_names.ENDS and name not in schema.features:
            continue
        if isinstance(value, list):
            pictures[cameras[0] if len(cameras) == 1 else name] = value
        elif value.dtype.kind == "U":
            texts[name] = [str(item).encode() for item in value.reshape(-1)]
        else:
            shape = schema.features[name].shape if name in schema.features else ()
            arrays[name] = value[..., 0] if value.shape[1:] == (*shape, 1) != (1,) else value
    tasks = [str(task) for task in np.asarray(values[_TASK])]
    return rlds_fields.Content(tasks=tasks, arrays=arrays, texts=texts, images=pictures)


def _leaf_problems(leaf: Leaf, found: rlds_values.Record, n: int) -> Iterator[str]:
    if not leaf.in_steps:
        if leaf.path not in found:
            yield f"lacks {show(leaf.path)}"
        return
    try:
        count = rlds_values.count_steps(leaf, found)
        if count is not None and count != n:
            yield f"{show(leaf.path)} has values for {count:,} steps, not {n:,}"
        elif leaf.is_camera and n:
            rlds_values.frames(leaf, found)
    except DataError as error:
        yield error.message


def _read(leaf: Leaf, found: rlds_values.Record, n: int) -> Value:
    """A camera's encoded images, each decoded once to see that it is whole; an array of anything else."""
    if not leaf.is_camera:
        return rlds_values.array(leaf, found, n)
    items = [bytes(item) for item in found[leaf.path].strings()]
    for item in items:
        images.decode(item)
    return items


def _metadata_problems(record: Record, found: rlds_values.Record, n: int) -> Iterator[str]:
    """``episode_metadata`` against the ledger; records have all of it, whatever is declared."""
    if found["episode_metadata/original_length"].integers().tolist() != [record.length]:
        yield "original_length is not that of the ledger"
    if found["episode_metadata/filtered_length"].integers().tolist() != [n]:
        yield "filtered_length is not the number of steps"
    _text(found["episode_metadata/source"])


def _step_problems(values: Mapping[str, Value], schema: Schema, n: int, record: Record) -> Iterator[str]:
    """The step fields of RLDS, as far as the position in the episode and its outcome decide about them."""
    last = np.arange(n) == n - 1
    terminal, reward = np.asarray(values["steps/is_terminal"]), np.asarray(values["steps/reward"])
    want = {_FIRST: np.arange(n) == 0, _LAST: last}
    ends: dict[str, bool] = {}
    if rlds_fields.TERMINAL not in schema.features:
        ends["is_terminal"] = bool(terminal[-1])
        want["steps/is_terminal"] = last & ends["is_terminal"]
    if "next.reward" not in schema.features:
        ends["reward"] = bool(reward[-1])
        want["steps/reward"] = last & ends["reward"]
    if "next.discount" not in schema.features:
        want["steps/discount"] = 1 - terminal
    for name in _against_outcome(values, schema, n, record, ends):
        yield f"{name} does not fit the outcome of the episode"
    for path, expected in want.items():
        if not np.array_equal(np.asarray(values[path]), expected):
            yield f"{path.removeprefix('steps/')} does not fit the positions of the steps"


def _against_outcome(
    values: Mapping[str, Value], schema: Schema, n: int, record: Record, ends: Mapping[str, bool]
) -> Iterator[str]:
    """Which of ``is_terminal`` and ``reward`` tell of another outcome than is known; ``ends`` has those of the two
    that follow from a rule -> the value at the last step.
    """
    if "next.success" not in schema.features:
        if ends.get("reward"):
            yield "reward"
        return
    success = np.asarray(values["steps/next/success"]).reshape(n, -1)
    # By a success rule of the recipe, and without one. The ledger has the outcome, and not whether there was one.
    outcomes = {
        bool(record.success),
        bool(success[-1].any() if (solved := record.meta.solved) is None else solved),
    }
    yield from (name for name, end in ends.items() if end not in outcomes)
    if len(set(ends.values())) > 1:
        yield "reward"


def _text(values: example.Values) -> str:
    (data,) = values.strings()
    return bytes(data).decode()


def parse_example(data: bytes) -> dict[str, Value]:
    """The features of a serialised ``tf.train.Example``: byte strings, float32 or int64 values.

    Raises:
        ValueError: it is none, or names a feature twice, of which readers would take one or the other.
    """
    try:
        return {name: _plain(values) for name, values in example.parse(data).items()}
    except DataError as error:
        raise ValueError(error.message) from None


def _plain(values: example.Values) -> Value:
    if values.kind == example.BYTES:
        return [bytes(item) for item in values.strings()]
    return values.floats() if values.kind == example.FLOATS else values.integers()
