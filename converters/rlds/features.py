"""What a ``features.json`` of TFDS declares, as a flat list of leaves.

The file is JSON of protobuf's ``Feature`` (https://github.com/tensorflow/datasets, ``core/proto/feature.proto``).
TFDS imports the class that ``pythonClassName`` names; here it is compared with a fixed list before anything else
is looked at, and nothing is imported. Features of other classes of TFDS itself are left out with a note; a class
that is not TFDS's own is refused, unless the user leaves its feature out.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from vla_data.errors import UsageError
from vla_data.safety.text import show

MAX_LEAVES: Final = 2_000
MAX_DIMENSION: Final = 1 << 24
MAX_LISTS: Final = 64
_SMALLEST: Final = 16
"""Pixels of a side below which numbers are no camera's."""

_MODULE: Final = "tensorflow_datasets.core.features"
CLASSES: Final[Mapping[str, str]] = {
    f"{_MODULE}.audio_feature.Audio": "audio",
    f"{_MODULE}.bounding_boxes.BBoxFeature": "box",
    f"{_MODULE}.class_label_feature.ClassLabel": "label",
    f"{_MODULE}.dataset_feature.Dataset": "list",
    f"{_MODULE}.feature.Tensor": "tensor",
    f"{_MODULE}.features_dict.FeaturesDict": "folder",
    f"{_MODULE}.image_feature.Image": "image",
    f"{_MODULE}.labeled_image.LabeledImage": "image",
    f"{_MODULE}.scalar.Scalar": "tensor",
    f"{_MODULE}.sequence_feature.Sequence": "list",
    f"{_MODULE}.tensor_feature.Tensor": "tensor",
    f"{_MODULE}.text_feature.Text": "text",
    f"{_MODULE}.translation_feature.Translation": "translation",
}
"""The feature classes that are read -> what they are here. Sorted."""

_OWN_CLASS: Final = re.compile(re.escape(_MODULE) + r"(?:\.[A-Za-z0-9_]{1,80}){1,3}")

_TEXT: Final = ("object", "str", "string", "bytes")
_NUMBERS: Final = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64"),
)
Shape = tuple[int | None, ...]
Kind = Literal["image", "tensor", "text", "unread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One feature that has values.

    Attributes:
        path: names joined by ``/``, as in the records, for example ``steps/observation/image``.
        kind: what its values are; "unread": they are left out.
        dtype: NumPy's name, or ``bfloat16``; ``text`` for text; of what is left out its class, or nothing where
            that was asked for.
        shape: of one value; None is any number.
        encoding: of a tensor: ``none``, or ``bytes`` or ``zlib`` for raw memory in a byte string.
        lists: length of each Sequence around it, outermost first, without the one of ``steps``; None is any.
        labels: whether it is a ClassLabel.
        pixels: whether it is a tensor that may be a camera's pixels: uint8 ``(height, width, 3)``.
        optional: whether a record may lack it.
    """

    path: str
    kind: Kind
    dtype: str
    shape: Shape = ()
    encoding: str = "none"
    lists: Shape = ()
    labels: bool = False
    pixels: bool = False
    optional: bool = False

    @property
    def in_steps(self) -> bool:
        """Whether every step has a value of its own."""
        return self.path.startswith("steps/")

    @property
    def is_camera(self) -> bool:
        """Whether these are 8-bit RGB images, encoded or as pixels; others are arrays."""
        encoded = self.kind == "image" and self.dtype == "uint8" and self.shape[-1] == 3
        return (encoded or self.pixels) and not self.lists


def leaves(tree: Any, leave_out: Sequence[str] = ()) -> list[Leaf]:
    """The leaves of a ``features.json``, in order of path.

    Args:
        tree: its value.
        leave_out: paths of features, or of folders of features, that are not looked at.

    Raises:
        UsageError: E121 for a feature class that is not TFDS's own, E106 for more than 2,000 features, E141 for
            anything else that no RLDS dataset has, E003 for a path in ``leave_out`` that is not there.
    """
    left = {path: _cut(tree, path) for path in dict.fromkeys(leave_out)}
    if unknown := [path for path, feature in left.items() if feature is None]:
        raise UsageError("E003", f"leave_out names {show(unknown[0])!r}, which is not a feature of the dataset")
    for path in left:
        tree = _without(tree, path.split("/"))
    _check_classes(tree)
    try:
        found = [Leaf(path=path, kind="unread", dtype="") for path in left]
        found += _walk(tree, "", ())
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise _odd(f"is no description of features ({type(error).__name__})") from None
    if twice := [path for path, count in Counter(leaf.path for leaf in found).items() if count > 1]:
        raise _odd(f"has two features at {show(twice[0])[:80]}")
    if not any(leaf.in_steps for leaf in found):
        raise UsageError("E002", "features.json has no steps, so this is not an RLDS dataset")
    return sorted(found, key=lambda leaf: leaf.path)


def of_ours(found: Iterable[Leaf]) -> tuple[Leaf, ...]:
    """The same leaves of a dataset of ours, where each camera is encoded and pixels as numbers are an array."""
    return tuple(replace(leaf, pixels=False) for leaf in found)


def _inner(feature: Any) -> Any:
    """The dictionary of features that a feature is, or is a list of; None where it is neither."""
    for _ in range(MAX_LISTS):
        if not isinstance(feature, dict):
            return None
        folder = feature.get("featuresDict")
        if isinstance(folder, dict):
            return folder.get("features")
        listed = feature.get("sequence")
        feature = listed.get("feature") if isinstance(listed, dict) else None
    return None


def _cut(tree: Any, path: str) -> Any:
    """The feature at a path, whatever it is, or None. Languages of a Translation have paths too."""
    feature, names = tree, path.split("/")
    while names:
        inner = _inner(feature)
        if not isinstance(inner, dict):
            return True if isinstance(feature, dict) and names[0] in _languages(feature) else None
        name, names = _first(inner, names)
        feature = inner.get(name)
    return feature


def _first(folder: Mapping[str, Any], names: Sequence[str]) -> tuple[str, list[str]]:
    """The feature of a folder that the first parts of a path are, which may be several, and the other parts."""
    known = ("/".join(names[:end]) for end in range(1, len(names) + 1))
    name = next((name for name in known if name in folder), names[0])
    return name, list(names[name.count("/") + 1 :])


def _languages(feature: Mapping[str, Any]) -> Sequence[Any]:
    told = feature.get("translation")
    listed = told.get("languages") if isinstance(told, dict) else None
    return listed if isinstance(listed, list) else ()


def _without(feature: Any, names: Sequence[str]) -> Any:
    """A copy of the tree without the feature that these names lead to."""
    if not isinstance(feature, dict):
        return feature
    if isinstance(folder := feature.get("featuresDict"), dict) and isinstance(folder.get("features"), dict):
        first, rest = _first(folder["features"], names)
        features = {key: value for key, value in folder["features"].items() if rest or key != first}
        if first in features:
            features[first] = _without(features[first], rest)
        return {**feature, "featuresDict": {**folder, "features": features}}
    if isinstance(listed := feature.get("sequence"), dict):
        return {**feature, "sequence": {**listed, "feature": _without(listed.get("feature"), names)}}
    if names[0] in _languages(feature):
        told = feature["translation"]
        left = [name for name in _languages(feature) if name != names[0]]
        return {**feature, "translation": {**told, "languages": left}}
    return feature


def _check_classes(tree: Any) -> None:
    """Compare every class name anywhere in the file, and count features, before any of it is used."""
    todo: list[tuple[Any, str, bool]] = [(tree, "", False)]  # a value, its path, whether its keys are names
    count = 0
    while todo:
        item, path, named = todo.pop()
        if isinstance(item, dict):
            if "pythonClassName" in item:
                count += 1
                name = item["pythonClassName"]
                if not isinstance(name, str) or not (name in CLASSES or _OWN_CLASS.fullmatch(name)):
                    where = shlex.quote(show(path)[:200]) if path else "PATH"
                    raise UsageError(
                        "E121",
                        f"features.json has a feature of class {show(name)[:120]}, which is not one of TFDS, "
                        f"and is not imported; --leave-out {where} leaves the feature out",
                    )
            for key, value in item.items():
                below = f"{path}/{key}" if path else str(key)
                todo.append((value, below if named else path, key == "features" and not named))
        elif isinstance(item, list):
            todo.extend((value, path, False) for value in item)
    if count > MAX_LEAVES:
        raise UsageError("E106", f"features.json has {count:,} features, more than {MAX_LEAVES:,}")
    if count == 0:
        raise UsageError("E002", "features.json names no feature classes; it may be of TFDS before 4.5")


def _walk(feature: Mapping[str, Any], path: str, lists: Shape) -> Iterator[Leaf]:
    kind = CLASSES.get(feature["pythonClassName"], "unread")
    if kind == "folder":
        for key, inner in feature["featuresDict"]["features"].items():
            yield from _walk(inner, f"{path}/{_named(key)}" if path else _named(key), lists)
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
    elif kind == "translation":
        for language in _languages(feature):
            yield Leaf(path=f"{path}/{_named(language)}", kind="text", dtype="text", lists=lists)
    elif kind == "box":  # (ymin, xmin, ymax, xmax) as shares of the sides, unless bboxFormat says otherwise
        facts = feature.get("boundingBox") or {}
        yield _tensor({"dtype": "float32", "shape": {"dimensions": ["4"]}, **facts}, path, lists)
    elif kind == "audio" and _is_plain_audio(feature["audio"]):
        yield _tensor({**feature["audio"], "encoding": "none"}, path, lists)
    elif kind in ("audio", "unread"):
        yield Leaf(path=path, kind="unread", dtype=feature["pythonClassName"].rpartition(".")[2], lists=lists)
    else:
        yield _tensor(feature["tensor"], path, lists)


def _is_plain_audio(facts: Mapping[str, Any]) -> bool:
    """Whether samples are stored as numbers, of a count that is declared."""
    return str(facts.get("encoding") or "none").lower() == "none" and None not in (_shape(facts) or (None,))


def _named(key: Any) -> str:
    # A name with slashes is stored as a folder's would be.
    if not isinstance(key, str) or not all(key.split("/")) or len(key) > 200 or show(key) != key:
        raise _odd(f"has a feature named {show(key)[:80]!r}")
    return key


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
    pixels = dtype == "uint8" and len(shape) == 3 and shape[2] == 3 and min(n or 0 for n in shape[:2]) >= _SMALLEST
    return Leaf(
        path=path,
        kind="tensor",
        dtype=dtype,
        shape=shape,
        encoding=encoding,
        lists=lists,
        pixels=pixels,
        optional=optional,
    )


def _shape(facts: Mapping[str, Any]) -> Shape:
    return tuple(_dimension(n) for n in facts.get("shape", {}).get("dimensions", ()))


def _dimension(value: Any) -> int | None:
    """A size; protobuf writes 64-bit numbers as text and -1 where it is not known."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError("a size that is not a number")
    number = int(value)
    if number > MAX_DIMENSION:
        raise UsageError("E107", f"features.json has a size of {number:,}")
    return None if number < 0 else number


def numpy_dtype(leaf: Leaf) -> np.dtype[Any]:
    """The dtype of a tensor's values here; bfloat16, which NumPy lacks, is held in float32 without loss."""
    return np.dtype("float32" if leaf.dtype == "bfloat16" else leaf.dtype)


def _odd(problem: str) -> UsageError:
    return UsageError("E141", f"features.json {problem}")
