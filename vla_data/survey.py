"""What lies at an address: formats, features, counts, conventions, and what is undeclared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_data.core import EpisodeRef, Json
from vla_data.errors import DataError
from vla_data.formats import detect, open_source, parse_address
from vla_data.locate import find_sidecar
from vla_data.pipeline import MANIFEST

SAMPLE = 64


def survey(address: str, *, everything: bool = False, **options: Any) -> dict[str, Json]:
    """A JSON-ready description of a source or dataset.

    Args:
        address: a path, or ``FORMAT:PATH``.
        everything: read every rollout, not at most 64 spread evenly over the folder.
        **options: of the source.
    """
    name, path = parse_address(address)
    side = find_sidecar(path) if path.is_dir() and name in (None, "lerobot", "rlds") else None
    if side is not None:
        return _dataset(side)
    name = name or detect(path)
    if name == "lerobot":
        return {"format": name, "info": json.loads((path / "meta/info.json").read_bytes())}
    if name == "rlds":
        info = json.loads((path / "dataset_info.json").read_bytes())
        return {"format": name, "info": info, "features": json.loads((path / "features.json").read_bytes())}
    return _rollouts(f"{name}:{path}", everything, options)


def _dataset(side: Path) -> dict[str, Json]:
    root = side.parent.parent if side.parent.name == "meta" else side.parent
    manifest = json.loads((side / MANIFEST).read_bytes())
    schema = json.loads((side / "schema.json").read_bytes())
    return {
        "format": "lerobot" if side.parent.name == "meta" else "rlds",
        "path": str(root),
        "fps": schema["fps"],
        "features": schema["features"],
        "undeclared": _undeclared(schema["features"]),
        "counts": manifest["counts"],
        "reasons": manifest["reasons"],
        "recipe": manifest["recipe"],
        "content_digest": manifest["content_digest"],
    }


def _rollouts(address: str, everything: bool, options: dict[str, Any]) -> dict[str, Json]:
    source = open_source(address, **options)
    refs = source.episodes()
    chosen = refs if everything else _spread(refs)
    tally: dict[str, Counter[str]] = {
        key: Counter() for key in ("image_size", "info_timing", "instruction", "notes", "problems")
    }
    other, fps = 0, None
    lengths, solved, low, high = [], 0, np.full(7, np.inf), np.full(7, -np.inf)
    problems: list[Json] = []
    features: dict[str, Json] = {}
    for ref in chosen:
        try:
            episode = source.read(ref)
        except DataError as error:
            if error.ignore:
                other += 1
                continue
            tally["problems"][f"{error.code} {error.name}"] += 1
            problems.append({"episode": ref.id, "code": error.code, "message": error.message})
            continue
        schema = source.schema(episode)
        features = features or schema.to_json()["features"]
        fps = fps or schema.fps
        action = episode.arrays["action"]
        lengths.append(len(episode))
        solved += bool(episode.success_after.any())
        low, high = np.minimum(low, action.min(axis=0)), np.maximum(high, action.max(axis=0))
        (frames,) = episode.frames.values()
        tally["image_size"][f"{frames.height}x{frames.width}"] += 1
        tally["info_timing"][f"{episode.meta['info_timing']} ({episode.meta['info_timing_rule']})"] += 1
        tally["instruction"][episode.task] += 1
        tally["notes"].update(episode.notes)
    out: dict[str, Json] = {
        "format": "ppo_rollout",
        "files": len(refs),
        "files_read": len(chosen),
        "bytes": sum(ref.size for ref in refs),
        "readable": len(lengths),
        "other_files": other,
        "with_success": solved,
        "fps": fps,
        "features": features,
        "undeclared": _undeclared(features),
        "problem_files": problems,
        **{key: dict(counter.most_common()) for key, counter in tally.items()},
    }
    if lengths:
        out["length"] = {"min": min(lengths), "max": max(lengths), "mean": float(np.mean(lengths))}
        out["action"] = {"min": low.tolist(), "max": high.tolist()}
    return out


def _spread(refs: Sequence[EpisodeRef]) -> Sequence[EpisodeRef]:
    if len(refs) <= SAMPLE:
        return refs
    return [refs[i] for i in np.linspace(0, len(refs) - 1, SAMPLE).round().astype(int)]


def _undeclared(features: dict[str, Json]) -> list[str]:
    """Facts that nobody has declared and that a trainer would have to guess."""
    return [
        f"{name}: {key}"
        for name, feature in sorted(features.items())
        for key, value in sorted(feature["convention"].items())
        if value == "undeclared"
    ]
