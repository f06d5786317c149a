"""Reads a dataset back with stock TFDS, the way that trainers do, and compares it with its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converters.rlds.check import content_of
from training_adapters.quiet_tensorflow import tf, tfds
from training_adapters.rlds_trajectories import open_builder
from vla_data.core import Json, Schema
from vla_data.core.content import content_digest
from vla_data.core.ledger import Record
from vla_data.errors import VerifyError
from vla_data.formats.sidecar import open_ledger
from vla_data.safety.text import show


def read_back(folder: Path) -> dict[str, Json]:
    """Open every episode of every split, decode every image, and compare all with the ledger: which episodes
    there are, in which split, with how many steps, and by their digests the actions, images and texts.

    Returns:
        "splits": name -> episodes and frames; "lines": what a person should see.

    Raises:
        VerifyError: E601, the dataset does not hold what its ledger says.
    """
    want = {record.id: record for record in open_ledger(folder).records if record.status == "published"}
    seen: set[str] = set()
    splits: dict[str, Json] = {}
    lows, highs = [], []
    try:
        builder = open_builder(folder)
        cameras = _cameras(builder.info.features["steps"].feature)
        skip: Json = {}
        for path in cameras:
            _put(skip, path, tfds.decode.SkipDecoding())
        schema = Schema.read(folder / "vla_data/schema.json", root=folder)
        for split in builder.info.splits:
            frames = episodes = 0
            for episode in tfds.as_numpy(builder.as_dataset(split=split, decoders={"steps": skip})):
                name = episode["episode_metadata"]["file_path"].decode("utf-8", "surrogateescape")
                if name in seen:
                    raise VerifyError("E601", f"{show(name)} is there twice")
                if name not in want or want[name].split != split:
                    raise VerifyError("E601", f"{show(name)} is in {split}, against the ledger")
                seen.add(name)
                actions = _check(want[name], [_flat(step) for step in episode["steps"]], cameras, schema)
                lows.append(actions.min(axis=0))
                highs.append(actions.max(axis=0))
                episodes += 1
                frames += want[name].frames("kept")
            splits[split] = {"episodes": episodes, "frames": frames}
    except (tf.errors.OpError, OSError) as error:
        reason = show((str(error).splitlines() or [""])[0])
        raise VerifyError("E601", f"TFDS can't read {show(folder)}: {reason}") from None
    if missing := sorted(want.keys() - seen):
        raise VerifyError("E601", f"{len(missing):,} episodes are missing, the first is {show(missing[0])}")
    total = sum(part["frames"] for part in splits.values())
    lines = [
        f"  Read back with TFDS {tfds.__version__}: {len(seen):,} episodes, {total:,} frames, all as recorded"
    ]
    lines += [
        f"    {name:<6}{part['episodes']:>7,} episodes{part['frames']:>10,} frames"
        for name, part in splits.items()
    ]
    for word, value in (("min", np.min(lows, axis=0)), ("max", np.max(highs, axis=0))):
        if value.size:
            lines.append(f"    action {word} {np.array2string(value, precision=3, suppress_small=True)}")
    return {"splits": splits, "lines": lines}


def _check(
    record: Record, steps: list[dict[str, Json]], cameras: Mapping[str, tfds.features.Image], schema: Schema
) -> np.ndarray:
    """The actions of an episode, when it is what the ledger says."""
    name = show(record.id)
    if len(steps) != record.frames("kept") or not steps:
        raise VerifyError("E601", f"{name} has {len(steps):,} steps, not {record.frames('kept'):,}")
    values: dict[str, Json] = {f"steps/{path}": _column([step[path] for step in steps]) for path in steps[0]}
    for path, image in cameras.items():
        values[f"steps/{path}"] = frames = [step[path] for step in steps]
        for t, data in enumerate(frames):
            try:
                image.decode_example(data)
            except (tf.errors.OpError, ValueError):
                raise VerifyError("E601", f"{name} step {t}: no image of {image.shape}") from None
    actions = [
        value for path, value in values.items() if path.startswith("steps/action") and value.dtype.kind == "f"
    ]
    if not all(np.isfinite(action).all() for action in actions):
        raise VerifyError("E601", f"{name}: actions that are not finite")
    if "steps/is_first" in values:
        found = content_of(values, schema).digest()
    else:
        texts = {step["language_instruction"] for step in steps}
        pictures = {path.removeprefix("observation/"): values[f"steps/{path}"] for path in cameras}
        task = steps[0]["language_instruction"].decode("utf-8", "surrogateescape")
        found = content_digest(task, {"action": values["steps/action"]}, pictures) if len(texts) == 1 else ""
    if found != record.content_sha256:
        raise VerifyError("E601", f"{name} has other content than the ledger says")
    flat: np.ndarray = values["steps/action"] if "steps/action" in values else np.zeros((len(steps), 0))
    return flat


def _column(items: list[Json]) -> np.ndarray:
    """The values of a feature in all steps; texts as text."""
    if isinstance(items[0], bytes):
        return np.asarray([item.decode("utf-8", "surrogateescape") for item in items])
    column = np.stack([np.asarray(item) for item in items])
    if column.dtype == object:
        texts = [item.decode("utf-8", "surrogateescape") for item in column.reshape(-1)]
        return np.asarray(texts).reshape(column.shape)
    return column


def _cameras(feature: Json, prefix: str = "") -> dict[str, tfds.features.Image]:
    """Path below ``steps`` -> every feature of 8-bit RGB images."""
    found: dict[str, tfds.features.Image] = {}
    for key, inner in feature.items():
        if isinstance(inner, tfds.features.FeaturesDict):
            found |= _cameras(inner, f"{prefix}{key}/")
        elif isinstance(inner, tfds.features.Image) and inner.shape[-1] == 3 and inner.np_dtype == np.uint8:
            found[f"{prefix}{key}"] = inner
    return found


def _put(tree: Json, path: str, value: Json) -> None:
    *folders, name = path.split("/")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name] = value


def _flat(tree: Json, prefix: str = "") -> dict[str, Json]:
    """Nested dictionaries as one, with paths."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        p: v for key, inner in tree.items() for p, v in _flat(inner, f"{prefix}/{key}" if prefix else key).items()
    }
