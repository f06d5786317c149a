"""A second look at TFDS datasets of ours, without TensorFlow and without the code that wrote them: the messages
are walked by the rules of protobuf (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from converters import tfrecord
from vla_data import images
from vla_data.core import Array, Json, Schema
from vla_data.digest import content_digest
from vla_data.errors import DataError
from vla_data.ledger import Ledger, Record
from vla_data.safety.text import show
from vla_data.sorting import unit_hash
from vla_data.verify import Blame

INFO: Final = "dataset_info.json"
FEATURES: Final = "features.json"
_OBSERVATION: Final = "steps/observation/"

Value = list[bytes] | Array


def examine(root: Path, ledger: Ledger, schema: Schema, blame: Blame) -> dict[str, Json]:
    """Read a dataset whole and compare its parts with each other and with its ledger.

    - TFRecord checksums; ``dataset_info.json`` has each shard's number of records and each split's bytes
    - every record is an Example with the features that ``features.json`` declares, of the declared sizes
    - each of the ledger's episodes is there once, in its split and in its order, with the steps that were kept,
      and has the ledger's content digest; every image is decoded and has the declared size
    - ``is_first``, ``is_last``, ``is_terminal`` and ``discount``, where there are such, follow from the position

    Args:
        root: the dataset, ``DATA_DIR/<name>/<config>/<version>``.
        ledger: its ledger.
        schema: its schema.
        blame: called for each damage.

    Returns:
        ``episodes`` and ``frames`` that were read.
    """
    check = _Dataset(root, ledger, blame)
    check.run()
    return {"episodes": check.episodes, "frames": check.frames}


@dataclass
class _Dataset:
    root: Path
    ledger: Ledger
    blame: Blame
    episodes: int = 0
    frames: int = 0
    _seen: dict[str, None] = field(default_factory=dict)

    def run(self) -> None:
        info = self._json(INFO)
        tree = self._json(FEATURES)
        try:
            self._declared = dict(_leaves(tree))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            self.blame(FEATURES, "is not a description of features")
            self._declared = {}
        self._want = {r.id: r for r in self.ledger.records if r.status == "published"}
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

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.root / name).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            self.blame(name, f"can't be read ({type(error).__name__})")
            return {}
        return value if isinstance(value, dict) else {}

    def _split(self, dataset: str, split: str, facts: Mapping[str, Any]) -> None:
        lengths = [int(n) for n in facts["shardLengths"]]
        size = 0
        order: list[str] = []
        for number, length in enumerate(lengths):
            file = f"{dataset}-{split}.tfrecord-{number:05d}-of-{len(lengths):05d}"
            count = 0
            try:
                with (self.root / file).open("rb") as handle:
                    for data in tfrecord.records(handle, name="the shard"):
                        count += 1
                        size += len(data)
                        order.extend(self._record(file, split, data))
            except DataError as error:
                self.blame(file, error.message)
            except OSError as error:
                self.blame(file, f"can't be read ({error.strerror})")
            if count != length:
                self.blame(INFO, f"{length:,} records in {file}, where {count:,} are")
        if int(facts["numBytes"]) != size:
            self.blame(INFO, f"numBytes of {split} is {show(facts['numBytes'])}, not {size:,}")
        wanted = sorted(order, key=lambda name: (unit_hash(name, salt="vla-data order"), name))
        if moved := [name for name, other in zip(order, wanted, strict=True) if name != other]:
            self.blame(".", f"records of {split} are not in their order", *moved)

    def _record(self, file: str, split: str, data: bytes) -> Iterator[str]:
        """Check one record; yields the id of its episode, if it has a known one."""
        try:
            example = parse_example(data)
            name = _text(example["episode_metadata/file_path"]).encode().decode()
        except (ValueError, KeyError, TypeError, IndexError):
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
            for problem in self._problems(record, example):
                self.blame(file, problem, name)
        except DataError as error:
            self.blame(file, error.message, name)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            self.blame(file, f"is not the Example that was declared ({type(error).__name__} {show(error)})", name)
        yield name

    def _problems(self, record: Record, example: Mapping[str, Value]) -> Iterator[str]:
        """What is wrong with an episode."""
        n = len(_bytes(example["steps/language_instruction"]))
        self.frames += n
        kept = record.frames("kept")
        if n != kept:
            yield f"{n:,} steps, but the ledger kept {kept:,} frames"
        for name, (dtype, shape) in self._declared.items():
            per_step = n if name.startswith("steps/") else 1
            count = per_step * (1 if dtype in ("image", "text") else int(np.prod(shape)))
            kind = list if dtype in ("image", "text") else np.ndarray
            if name not in example:
                yield f"lacks {show(name)}"
            elif not isinstance(example[name], kind) or len(example[name]) != count:
                yield f"{show(name)} is not of {count:,} values"
            elif dtype == "image":
                found = {images.decode(item).shape for item in _bytes(example[name])}
                if found != {shape}:
                    yield f"{show(name)} has images of {show(sorted(found))}, not {shape}"
        texts = _bytes(example["steps/language_instruction"])
        action = np.asarray(example["steps/action"]).reshape(n, *self._declared["steps/action"][1])
        pictures = {
            name.removeprefix(_OBSERVATION): _bytes(example[name])
            for name, (dtype, _) in self._declared.items()
            if dtype == "image"
        }
        if content_digest(texts[0].decode(), {"action": action}, pictures) != record.content_sha256:
            yield "the content is not that of the ledger's digest"
        yield from _metadata_problems(record, example, n)
        if "steps/is_first" in example:
            yield from _step_problems(example, n)


def _metadata_problems(record: Record, example: Mapping[str, Value], n: int) -> Iterator[str]:
    """``episode_metadata`` against the ledger; records have all of it, whatever is declared."""
    if _numbers(example["episode_metadata/original_length"]) != [record.length]:
        yield "original_length is not that of the ledger"
    if _numbers(example["episode_metadata/filtered_length"]) != [n]:
        yield "filtered_length is not the number of steps"
    _text(example["episode_metadata/source"])


def _step_problems(example: Mapping[str, Value], n: int) -> Iterator[str]:
    """The step fields of RLDS, as far as the position in the episode decides about them."""
    first, last = [1] + [0] * (n - 1), [0] * (n - 1) + [1]
    terminal = _numbers(example["steps/is_terminal"])
    want = {
        "is_first": first,
        "is_last": last,
        "is_terminal": terminal if terminal in ([0] * n, last) else last,
        "discount": [1 - value for value in terminal],
    }
    for name, values in want.items():
        if _numbers(example[f"steps/{name}"]) != values:
            yield f"{name} does not fit the positions of the steps"


def _leaves(feature: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """Name -> ("image", "text" or a dtype, shape of a step) of every feature of a ``features.json``."""
    if "featuresDict" in feature:
        for key, inner in feature["featuresDict"]["features"].items():
            yield from _leaves(inner, f"{name}/{key}" if name else key)
    elif "sequence" in feature:
        yield from _leaves(feature["sequence"]["feature"], name)
    elif "text" in feature:
        yield name, ("text", ())
    else:
        kind = "image" if "image" in feature else "tensor"
        shape = tuple(int(n) for n in feature[kind]["shape"].get("dimensions", ()))
        yield name, ("image" if kind == "image" else str(feature[kind]["dtype"]), shape)


def _bytes(value: Value) -> list[bytes]:
    if not isinstance(value, list):
        raise TypeError("numbers where bytes belong")
    return value


def _text(value: Value) -> str:
    (data,) = _bytes(value)
    return data.decode()


def _numbers(value: Value) -> list[Any]:
    if isinstance(value, list):
        raise TypeError("bytes where numbers belong")
    out: list[Any] = value.tolist()
    return out


def parse_example(data: bytes) -> dict[str, Value]:
    """The features of a serialised ``tf.train.Example``: byte strings, float32 or int64 values.

    Raises:
        ValueError: it is none, or names a feature twice, of which readers would take one or the other.
    """
    out: dict[str, Value] = {}
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            fields = dict(_fields(entry))
            name = bytes(fields[1]).decode()
            if name in out or len(list(_fields(entry))) != 2:
                raise ValueError(f"feature {name!r} is there twice")
            out[name] = _feature(fields[2])
    return out


def _feature(data: memoryview) -> Value:
    ((kind, content),) = _fields(data)
    if kind == 1:
        return [bytes(item) for item in _messages(content, 1)]
    packed = b"".join(bytes(item) for item in _messages(content, 1))
    if kind == 2:
        return np.frombuffer(packed, dtype="<f4")
    if kind != 3:
        raise ValueError(f"a list of kind {kind}")
    values, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value - (1 << 64) if value >> 63 else value)
    return np.asarray(values, dtype=np.int64)


def _messages(data: bytes | memoryview, number: int) -> Iterator[memoryview]:
    for found, content in _fields(data):
        if found != number:
            raise ValueError(f"field {found} where {number} belongs")
        yield content


def _fields(data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the length-delimited fields of a message; an Example has no others."""
    view = memoryview(data)
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        size, at = _varint(view, at)
        if key & 7 != 2 or at + size > len(view):
            raise ValueError("not a field of an Example")
        yield key >> 3, view[at : at + size]
        at += size


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number without end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
