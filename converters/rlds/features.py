"""What a ``features.json`` of TFDS declares, as a flat list of leaves.

The file is JSON of protobuf's ``Feature`` (https://github.com/tensorflow/datasets, ``core/proto/feature.proto``).
TFDS imports the class that ``pythonClassName`` names; here it is compared with a fixed list before anything else
is looked at, and nothing is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from vla_data.errors import UsageError
from vla_data.safety.text import show

MAX_LEAVES: Final = 2_000
MAX_DIMENSION: Final = 1 << 24

_MODULE: Final = "tensorflow_datasets.core.features"
CLASSES: Final[Mapping[str, str]] = {
    f"{_MODULE}.class_label_feature.ClassLabel": "label",
    f"{_MODULE}.dataset_feature.Dataset": "list",
    f"{_MODULE}.feature.Tensor": "tensor",
    f"{_MODULE}.features_dict.FeaturesDict": "folder",
    f"{_MODULE}.image_feature.Image": "image",
    f"{_MODULE}.scalar.Scalar": "tensor",
    f"{_MODULE}.sequence_feature.Sequence": "list",
    f"{_MODULE}.tensor_feature.Tensor": "tensor",
    f"{_MODULE}.text_feature.Text": "text",
}
"""The feature classes that are read -> what they are here. Sorted."""

_TEXT: Final = ("object", "str", "string", "bytes")
_NUMBERS: Final = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64"),
)
Shape = tuple[int | None, ...]
Kind = Literal["image", "tensor", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One feature that has values.

    Attributes:
        path: names joined by ``/``, as in the records, for example ``steps/observation/image``.
        kind: what its values are.
        dtype: NumPy's name, or ``bfloat16``; ``text`` for text.
        shape: of one value; None is any number.
        encoding: of a tensor: ``none``, or ``bytes`` or ``zlib`` for raw memory in a byte string.
        lists: length of each Sequence around it, outermost first, without the one of ``steps``; None is any.
        labels: whether it is a ClassLabel.
        optional: whether a record may lack it.
    """

    path: str
    kind: Kind
    dtype: str
    shape: Shape = ()
    encoding: str = "none"
    lists: Shape = ()
    labels: bool = False
    optional: bool = False

    @property
    def in_steps(self) -> bool:
        """Whether every step has a value of its own."""
        return self.path.startswith("steps/")

    @property
    def is_camera(self) -> bool:
        """Whether these are 8-bit RGB images; others are arrays."""
        return self.kind == "image" and self.dtype == "uint8" and self.shape[-1] == 3 and not self.lists


def leaves(tree: Any) -> list[Leaf]:
    """The leaves of a ``features.json``, in order of path.

    Raises:
        UsageError: E121 for a feature class that is not in `CLASSES`, E106 for more than 2,000 features, E141 for
            anything else that no RLDS dataset has.
    """
    _check_classes(tree)
    try:
        found = list(_walk(tree, "", ()))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise _odd(f"is no description of features ({type(error).__name__})") from None
    if not any(leaf.in_steps for leaf in found):
        raise UsageError("E002", "features.json has no steps, so this is no RLDS dataset")
    return sorted(found, key=lambda leaf: leaf.path)


def _check_classes(tree: Any) -> None:
    """Compare every class name anywhere in the file, and count features, before any of it is used."""
    todo, count = [tree], 0
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if "pythonClassName" in item:
                count += 1
                name = item["pythonClassName"]
                if not isinstance(name, str) or name not in CLASSES:
                    raise UsageError("E121", f"features.json has a feature of class {show(name)[:120]}")
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
    if count > MAX_LEAVES:
        raise UsageError("E106", f"features.json has {count:,} features, more than {MAX_LEAVES:,}")
    if count == 0:
        raise UsageError("E002", "features.json names no feature classes; it may be of TFDS before 4.5")


def _walk(feature: Mapping[str, Any], path: str, lists: Shape) -> Iterator[Leaf]:
    kind = CLASSES[feature["pythonClassName"]]
    if kind == "folder":
        for key, inner in feature["featuresDict"]["features"].items():
            if not key or "/" in key or len(key) > 200 or show(key) != key:
                raise _odd(f"has a feature named {show(key)[:80]!r}")
            yield from _walk(inner, f"{path}/{key}" if path else key, lists)
    elif kind == "list":
        length = _dimension(feature["sequence"].get("length", "-1"))
        is_steps = path == "steps" and not lists
        yield from _walk(feature["sequence"]["feature"], path, lists if is_steps else (*lists, length))
    elif kind == "text":
        yield Leaf(path=path, kind="text", dtype="text", lists=lists)
    elif kind == "label":
        yield Leaf(path=path, kind="tensor", dtype="int64", lists=lists, labels=True)
    elif kind == "image":
        yield _image(feature["image"], path, lists)
    else:
        yield _tensor(feature["tensor"], path, lists)


def _image(facts: Mapping[str, Any], path: str, lists: Shape) -> Leaf:
    shape = _shape(facts) or (None, None, 3)
    dtype = facts.get("dtype") or "uint8"
    if len(shape) != 3 or dtype not in ("uint8", "uint16", "float32"):
        raise _odd(f"declares {show(path)} as an image of {show(dtype)}{shape}")
    return Leaf(path=path, kind="image", dtype=dtype, shape=shape, lists=lists)


def _tensor(facts: Mapping[str, Any], path: str, lists: Shape) -> Leaf:
    dtype, encoding = facts["dtype"], facts.get("encoding") or "none"
    shape, optional = _shape(facts), facts.get("optional", False) is True
    if dtype in _TEXT and encoding == "none":
        return Leaf(path=path, kind="text", dtype="text", shape=shape, lists=lists, optional=optional)
    if dtype not in _NUMBERS or encoding not in ("none", "bytes", "zlib"):
        raise _odd(f"declares {show(path)} as {show(dtype)} encoded as {show(encoding)}")
    return Leaf(
        path=path, kind="tensor", dtype=dtype, shape=shape, encoding=encoding, lists=lists, optional=optional
    )


def _shape(facts: Mapping[str, Any]) -> Shape:
    return tuple(_dimension(n) for n in facts.get("shape", {}).get("dimensions", ()))


def _dimension(value: Any) -> int | None:
    """A size; protobuf writes 64-bit numbers as text and -1 where it is not known."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError("a size that is no number")
    number = int(value)
    if number > MAX_DIMENSION:
        raise UsageError("E107", f"features.json has a size of {number:,}")
    return None if number < 0 else number


def numpy_dtype(leaf: Leaf) -> np.dtype[Any]:
    """The dtype of a tensor's values here; bfloat16, which NumPy lacks, is held in float32 without loss."""
    return np.dtype("float32" if leaf.dtype == "bfloat16" else leaf.dtype)


def _odd(problem: str) -> UsageError:
    return UsageError("E141", f"features.json {problem}")
