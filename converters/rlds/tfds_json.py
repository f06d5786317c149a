"""The two JSON files that make a folder of TFRecords a TFDS dataset, written without TensorFlow.

``features.json`` and ``dataset_info.json`` are protobuf messages in JSON
(https://github.com/tensorflow/datasets, ``core/proto``). Only the features that RLDS datasets of ours use are
here; a test compares the result with what stock TFDS writes for the same features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vla_data.core import Json

_MODULE = "tensorflow_datasets.core.features"


def text(doc: str = "") -> Json:
    """A string."""
    return _described({"pythonClassName": f"{_MODULE}.text_feature.Text", "text": {}}, doc)


def scalar(dtype: str, doc: str = "") -> Json:
    """One number; ``dtype`` is NumPy's name."""
    tensor = {"dtype": dtype, "encoding": "none", "shape": {}}
    return _described({"pythonClassName": f"{_MODULE}.scalar.Scalar", "tensor": tensor}, doc)


def tensor(shape: Sequence[int], dtype: str, doc: str = "", *, encoding: str = "none") -> Json:
    """An array of fixed shape; ``encoding`` is "none" for numbers or "bytes" for their memory."""
    dimensions = {"dimensions": [str(n) for n in shape]} if shape else {}
    content = {"dtype": dtype, "encoding": encoding, "shape": dimensions}
    return _described({"pythonClassName": f"{_MODULE}.tensor_feature.Tensor", "tensor": content}, doc)


def image(
    height: int, width: int, encoding: str, doc: str = "", *, channels: int = 3, dtype: str = "uint8"
) -> Json:
    """An encoded image of fixed size, RGB if not said otherwise."""
    shape = {"dimensions": [str(height), str(width), str(channels)]}
    content = {"dtype": dtype, "encodingFormat": encoding, "shape": shape}
    return _described({"pythonClassName": f"{_MODULE}.image_feature.Image", "image": content}, doc)


def folder(features: Mapping[str, Json]) -> Json:
    """A dictionary of features."""
    return {
        "featuresDict": {"features": dict(features)},
        "pythonClassName": f"{_MODULE}.features_dict.FeaturesDict",
    }


def steps(feature: Json) -> Json:
    """A nested dataset: RLDS's ``steps``."""
    return {
        "pythonClassName": f"{_MODULE}.dataset_feature.Dataset",
        "sequence": {"feature": feature, "length": "-1"},
    }


def _described(feature: dict[str, Json], doc: str) -> Json:
    return {"description": doc, **feature} if doc else feature


@dataclass(frozen=True, slots=True)
class Split:
    """One split: bytes of its records, and the number of episodes in each of its shards."""

    name: str
    size: int
    shard_lengths: tuple[int, ...]


def shard_name(dataset: str, split: str, shard: int, shards: int) -> str:
    """TFDS's file name of a shard."""
    return f"{dataset}-{split}.tfrecord-{shard:05d}-of-{shards:05d}"


def dataset_info(
    *, name: str, version: str, config: str, module: str, description: str, splits: Sequence[Split]
) -> Json:
    """The content of ``dataset_info.json``."""
    return {
        "configName": config,
        "description": description,
        "fileFormat": "tfrecord",
        "moduleName": module,
        "name": name,
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split.name,
                "numBytes": str(split.size),
                "shardLengths": [str(n) for n in split.shard_lengths],
            }
            for split in splits
        ],
        "version": version,
    }
