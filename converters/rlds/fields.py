"""All features of an episode as fields of an RLDS record, and as ``features.json`` declares them.

Names are those of `converters.rlds.names`. What is stored how:

    images                              JPEG or PNG bytes
    uint16 (H, W[, 1]), uint8 (H, W, 1|4)   lossless PNG (`converters.rlds.images`): depth, masks
    bool, integers, float16, float32    numbers
    float64                             its memory, which TFDS reads as float64; as numbers it would be float32
    text                                UTF-8

``is_first`` and ``is_last`` are positions. Three more every record of RLDS must have; where the episode does not
have them, they follow from a rule and are no part of its content:

- ``is_terminal`` is ``next.terminated``, else the last step of an episode that was solved, is done, or of which
  neither is known. An episode that was cut by a limit is not terminal: its last step has ``is_last`` alone
- ``reward`` is ``next.reward``, else 1 on the last step of an episode that has ``next.success`` and was solved
  (``meta.solved``, without it ``next.success`` of the last step) and 0 everywhere else: never 1 where an
  episode failed, or where nobody said
- ``discount`` is ``next.discount``, else 0 on a terminal step and 1 on others

The schema beside the records lists what the episodes had, so `converters.rlds.source` gives back that alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from converters.rlds import images as rlds_images
from converters.rlds import names as rlds_names
from converters.rlds import own as rlds_own
from converters.rlds import tfds_json as tfds_files
from converters.rlds import tfrecord
from vla_data.core import Array, Episode, Feature, Json, Schema
from vla_data.core.content import content_digest
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

TERMINAL, TRUNCATED = "next.terminated", "next.truncated"
SOURCE_METADATA: Final = "source_metadata"
_NOT_RECORDED: Final = "Not recorded, by a rule: "
_SCALARS: Final = {TERMINAL: "bool", "next.reward": "float32", "next.discount": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a record says of an episode, in the form in which it is compared.

    Attributes:
        tasks: the instruction of every step.
        arrays: name -> numbers, ``(T, ...)``; with all of `rlds_names.ENDS`.
        texts: name -> UTF-8 of a feature's texts, one after the other.
        images: name -> encoded images of a camera.
        derived: names of arrays that follow from a rule, because the episode had none.
    """

    tasks: Sequence[str]
    arrays: Mapping[str, Array]
    texts: Mapping[str, Sequence[bytes]]
    images: Mapping[str, Sequence[bytes]]
    derived: frozenset[str] = frozenset()

    def digest(self) -> str:
        """`vla_data.core.content.content_digest` of what the episode had.

        One number a step is ``(1,)`` whatever its shape.
        """
        steps = len(self.tasks)
        own = {name: array for name, array in self.arrays.items() if name not in self.derived}
        arrays = {name: a.reshape(steps, *(a.shape[1:] or (1,))) for name, a in own.items()}
        texts = {**self.texts, **self.images}
        if len(set(self.tasks)) > 1:
            texts["task"] = [task.encode("utf-8", "surrogatepass") for task in self.tasks]
        return content_digest(self.tasks[0] if steps else "", arrays, texts)


def content_of(
    episode: Episode, names: Sequence[str], images: Mapping[str, Sequence[bytes]], *, float32: bool = False
) -> Content:
    """The content of an episode.

    Args:
        episode: with an action, flat or in parts.
        names: of the features to hold.
        images: camera -> its encoded images.
        float32: cast float64 to float32.

    Raises:
        DataError: E206 without an action, E203 for arrays that RLDS can't hold.
    """
    if not any(name == "action" or name.startswith("action.") for name in episode.arrays):
        raise DataError("E206", "missing key 'action'")
    arrays: dict[str, Array] = {}
    texts: dict[str, Sequence[bytes]] = {}
    for name in names:
        if name not in episode.arrays or name == "task":
            continue
        array = episode.arrays[name]
        if array.dtype.kind == "U":
            texts[name] = [str(item).encode("utf-8", "surrogatepass") for item in array.reshape(-1)]
        elif array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise DataError("E203", f"{show(name)} is an array of {array.dtype}, which RLDS can't hold")
        else:
            arrays[name] = array.astype(np.float32) if float32 and array.dtype == np.float64 else array
    tasks = [str(task) for task in episode.arrays.get("task", [episode.task] * len(episode))]
    derived = frozenset(rlds_names.ENDS) - arrays.keys()
    return Content(tasks=tasks, arrays=_with_ends(episode, arrays), texts=texts, images=images, derived=derived)


def _with_ends(episode: Episode, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays with how the episode ended, which every record says."""
    last = np.arange(len(episode)) == len(episode) - 1
    if TERMINAL in arrays:
        terminal = _per_step(TERMINAL, arrays[TERMINAL]).astype(np.bool_)
    else:
        terminal = terminal_by_rule(episode)
    out: dict[str, Array] = {
        "next.reward": (last & _is_solved(episode, arrays)).astype(np.float32),
        "next.discount": (1 - terminal).astype(np.float32),
        TRUNCATED: last & ~terminal,
    }
    for name in out:
        if name in arrays:
            out[name] = _per_step(name, arrays[name])
    return {**arrays, **out, TERMINAL: terminal}


def _is_solved(episode: Episode, arrays: Mapping[str, Array]) -> bool:
    """Whether it is recorded that the episode was solved."""
    success = arrays.get("next.success")
    if success is None or len(success) == 0:
        return False
    return bool(_per_step("next.success", success)[-1] if episode.meta.solved is None else episode.meta.solved)


def terminal_by_rule(episode: Episode) -> Array:
    """``is_terminal`` of an episode without ``next.terminated``."""
    last: Array = np.arange(len(episode)) == len(episode) - 1
    if episode.meta.solved is not None:  # the flag itself may be on a step that was pruned
        return last if episode.meta.solved else np.zeros_like(last)
    for flag in ("next.success", "next.done"):  # without either, a recording ends because the task is done
        if flag in episode.arrays:
            flags: Array = _per_step(flag, episode.arrays[flag]).astype(np.bool_)
            return last & flags
    return np.zeros_like(last) if episode.meta.success is False else last


def _per_step(name: str, array: Array) -> Array:
    if array.size != len(array):
        raise DataError("E203", f"{show(name)} has {array.shape[1:]} values a step; RLDS needs one")
    return array.reshape(len(array))


def record_fields(content: Content, schema: Schema) -> dict[str, tfrecord.Value]:
    """Fields of the record, below ``steps``."""
    steps = len(content.tasks)
    own = [name for name in schema.features if name in content.arrays or name in content.texts]
    paths = rlds_names.paths_of(own, list(content.images))
    fields: dict[str, tfrecord.Value] = {
        "is_first": (np.arange(steps) == 0).astype(np.int64),
        "is_last": (np.arange(steps) == steps - 1).astype(np.int64),
        "is_terminal": _stored(content.arrays[TERMINAL]),
        "reward": _stored(content.arrays["next.reward"]),
        "discount": _stored(content.arrays["next.discount"]),
        "language_instruction": [task.encode() for task in content.tasks],
    }
    for name in own:
        fields[paths[name]] = content.texts[name] if name in content.texts else _stored(content.arrays[name])
    for name, items in content.images.items():
        fields[paths[name]] = items
    return {f"steps/{path}": value for path, value in fields.items()}


def _stored(array: Array) -> tfrecord.Value:
    """An array as an Example has it."""
    if rlds_images.is_plain_image(str(array.dtype), array.shape[1:]):
        return [rlds_images.encode(pixels) for pixels in array]
    if array.dtype == np.float64:
        little = np.ascontiguousarray(array, dtype="<f8")
        return [step.tobytes() for step in little]
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array.view(np.int64) if array.dtype == np.uint64 else array.astype(np.int64)


def scalars(content: Content, names: Sequence[str]) -> list[str]:
    """Features with one number a step and no shape; a schema says ``(1,)`` of both."""
    return sorted(name for name in names if name in content.arrays and content.arrays[name].ndim == 1)


def step_features(schema: Schema, encoding: str, plain: Sequence[str], *, float32: bool = False) -> Json:
    """The ``FeaturesDict`` of a step in ``features.json``.

    Args:
        schema: of all episodes.
        encoding: ``jpeg`` or ``png``, of cameras.
        plain: features that `scalars` names.
        float32: float64 was cast.
    """
    cameras = [name for name, feature in schema.features.items() if feature.dtype == "image"]
    arrays = [name for name in schema.features if name not in cameras and name != "task"]
    paths = rlds_names.paths_of(arrays, cameras)
    step: dict[str, Json] = {
        "is_first": tfds_files.scalar("bool", "First step of the episode."),
        "is_last": tfds_files.scalar("bool", "Last step of the episode."),
        "is_terminal": tfds_files.scalar(
            "bool", _NOT_RECORDED + "the last step, unless the episode failed or was cut."
        ),
        "reward": tfds_files.scalar("float32", _NOT_RECORDED + "1 on the last step where success was."),
        "discount": tfds_files.scalar("float32", _NOT_RECORDED + "0 on a terminal step, else 1."),
        "language_instruction": tfds_files.text("The instruction."),
    }
    if not any(name == "action" or name.startswith("action.") for name in arrays):
        step["action"] = tfds_files.tensor((7,), "float32", "Translation, rotation, gripper.")
    for name in cameras:
        height, width, _ = schema.features[name].shape
        _put(step, paths[name], tfds_files.image(height, width, encoding, "Image before the action."))
    for name in arrays:
        feature = schema.features[name]
        if float32 and feature.dtype == "float64":
            feature = replace(feature, dtype="float32")
        if name in _SCALARS or name == TRUNCATED:
            dtype = "bool" if name == TERMINAL else feature.dtype
            feature, plain = replace(feature, dtype=dtype), [*plain, name]
        _put(step, paths[name], _declared(feature, name in plain))
    return _folders(step)


def _declared(feature: Feature, is_scalar: bool) -> Json:
    doc = ", ".join(feature.names) if feature.names else ""
    shape = () if is_scalar else feature.shape
    if feature.dtype == "string":
        return tfds_files.text(doc) if feature.shape == (1,) else tfds_files.tensor(shape, "object", doc)
    if rlds_images.is_plain_image(feature.dtype, feature.shape):
        channels = feature.shape[2] if len(feature.shape) == 3 else 1
        height, width = feature.shape[:2]
        return tfds_files.image(height, width, "png", doc, channels=channels, dtype=feature.dtype)
    if feature.dtype == "float64":
        return tfds_files.tensor(shape, feature.dtype, doc, encoding="bytes")
    return tfds_files.tensor(shape, feature.dtype, doc) if shape else tfds_files.scalar(feature.dtype, doc)


def _put(tree: dict[str, Json], path: str, value: Json) -> None:
    """Set a value in nested plain dictionaries, which `_folders` makes features of."""
    *folders, name = path.split("/")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name] = value


def _folders(tree: Mapping[str, Json]) -> Json:
    inner = {key: value if "pythonClassName" in value else _folders(value) for key, value in tree.items()}
    return tfds_files.folder(inner)


# -- facts of the whole episode -------------------------------------------------------------------------


def facts_of(episode: Episode) -> tuple[dict[str, tfrecord.Value], dict[str, str]]:
    """Fields below ``episode_metadata`` of what the source knew of the episode, and their types.

    All of it is in ``source_metadata`` as JSON. Facts whose types the source declares (RLDS) are also fields of
    their own; those that are called like ours have ``source_`` before their names.
    """
    facts = episode.meta.episode_metadata or {}
    types = episode.meta.episode_metadata_types
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    fields: dict[str, tfrecord.Value] = {SOURCE_METADATA: [text.encode("utf-8", "surrogatepass")]}
    declared: dict[str, str] = {}
    for name, dtype in sorted(types.items()):
        value = fact_field(facts.get(name), dtype)
        if value is not None:
            key = fact_key(name)
            fields[key], declared[key] = value, dtype
    try:
        rlds_names.check_paths([*fields, *rlds_own.OWN_FACTS])
    except UsageError:  # names that exclude each other: JSON has them all
        return {SOURCE_METADATA: fields[SOURCE_METADATA]}, {}
    return fields, declared


def fact_key(name: str) -> str:
    """The field of a source's fact."""
    return f"source_{name}" if name in (*rlds_own.OWN_FACTS, "metadata") else name


def fact_field(value: Json, dtype: str) -> tfrecord.Value | None:
    """A fact as an Example has it; None when it is not of that type."""
    if dtype == "text" and isinstance(value, str):
        return [value.encode("utf-8", "surrogatepass")]
    if dtype == "bool" and isinstance(value, bool):
        return np.asarray([value], np.int64)
    if dtype.startswith(("int", "uint")) and isinstance(value, int) and -(2**63) <= value < 2**63:
        return np.asarray([value], np.int64)
    if dtype == "float32" and isinstance(value, float) and math.isfinite(value):
        return np.asarray([value], np.float32)
    return None


def fact_features(types: Mapping[str, str]) -> Iterator[tuple[str, Json]]:
    """Path and feature of facts that have fields of their own."""
    for name, dtype in types.items():
        doc = "As the source has it."
        yield name, tfds_files.text(doc) if dtype == "text" else tfds_files.scalar(dtype, doc)


def metadata_features(own: Mapping[str, Json], types: Mapping[str, str]) -> Json:
    """The ``FeaturesDict`` of ``episode_metadata``."""
    tree = dict(own)
    for path, feature in fact_features(types):
        _put(tree, path, feature)
    return _folders(tree)
