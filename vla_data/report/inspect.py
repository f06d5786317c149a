"""What lies at an address: format, features, counts, conventions, and what is undeclared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_data.core import Array, Episode, EpisodeMeta, EpisodeRef, Json, Schema, Source
from vla_data.core.base import whole
from vla_data.core.manifest import read_manifest
from vla_data.core.unneeded import lenient
from vla_data.errors import DataError
from vla_data.formats import beside, detect, find, open_source
from vla_data.formats.detection import HDF5
from vla_data.formats.open import split, storage_of
from vla_data.formats.sidecar import find_sidecar
from vla_data.formats.tables import load_module
from vla_data.jobs.remarks import undeclared
from vla_data.remote.address import is_url
from vla_data.report.undeclared import without_declarations
from vla_data.selection.subset import select

SAMPLE: Final = 64
_SHOWN: Final = 20
_TOLERANCE: Final = 0.02
_STEPS: Final = 4_096
"""Of which the spread of numbers is shown."""
# Facts that every source gives, and the robot, which the schema has; the others are what it detected or was told.
_OF_ONE: Final = ("id", "seed", "scene")
_USUAL: Final = ("source", "source_length", "source_sha256", "robot")


Seen = Callable[[int, int, Schema, Episode], None]
"""Called with each episode that was read: its place among those that are read, how many these are, its schema."""

_SHORT: Final = 48


def survey(
    address: str,
    *,
    everything: bool = False,
    episodes: str | None = None,
    most: int = SAMPLE,
    seen: Seen | None = None,
    kept: dict[str, Array] | None = None,
    **options: Any,
) -> dict[str, Json]:
    """A JSON-ready description of a source or dataset.

    Args:
        address: a path, or ``FORMAT:PATH``.
        everything: read every episode, not at most ``most`` spread evenly.
        episodes: only these, by position, as ``0,3,5-9``.
        most: episodes that are read.
        seen: who else looks at the episodes that are read.
        kept: gets the numbers of steps that were read, ``(N, width)`` by feature, of a few thousand steps at most.
        **options: of the source.
    """
    format, where = split(address)
    if is_url(where) and not everything:
        found = _sampled(format, where, episodes, options, most=most, seen=seen)
        if found is not None:
            return found
    name, path = find(address)

    def look(unneeded: Collection[str] = ()) -> dict[str, Json]:
        opened = open_source(address if is_url(where) else f"{name}:{path}", **options)
        source = select(lenient(opened, unneeded), episodes)
        refs = source.episodes()
        return _Survey(source, refs if everything else _spread(refs, most), seen, kept).facts()

    facts = without_declarations(look)
    if not isinstance(path, Path):
        return {"format": name, "path": str(path), **facts, "beside": []}
    facts["beside"] = list(beside(path, name))
    side = find_sidecar(path) if path.is_dir() else None
    return {"format": name, "path": str(path), **facts, **(_made(side) if side is not None else {})}


def _made(side: Path) -> dict[str, Json]:
    """What the manifest of a dataset of ours says about how it was made."""
    manifest = read_manifest(side)
    return {key: manifest[key] for key in ("counts", "reasons", "provenance", "content_sha256")}


def told(value: Json) -> str:
    """``Name(option=value)`` of a provenance, without options that are off and long values."""
    if isinstance(value, Mapping) and "type" in value:
        options = [f"{name}={told(item)}" for name, item in value.items() if name != "type" and not _is_off(item)]
        return f"{value['type']}({', '.join(options)})"
    if isinstance(value, list) and any(isinstance(item, Mapping) and "type" in item for item in value):
        return f"[{', '.join(map(told, value))}]"
    text = value["repr"] if isinstance(value, Mapping) and value.keys() == {"repr"} else repr(value)
    return text if len(text) <= _SHORT else "..."


def _is_off(value: Json) -> bool:
    """Whether an option is off, empty or left to be detected."""
    return value in (None, False, "auto", "", [])


def _sampled(
    format: str | None,
    where: str,
    episodes: str | None,
    options: Mapping[str, Any],
    *,
    most: int,
    seen: Seen | None,
) -> dict[str, Json] | None:
    """A description of what lies at a URL, for which as little of it is fetched as one episode needs; None for
    rollouts, which are read one by one where they lie.
    """
    sample = load_module("vla_data.remote.sample", "remote").sample
    storage = storage_of(where)
    if storage.is_file():
        return None
    with sample(storage) as part:
        name = format or detect(part.folder)
        if name == "ppo_rollout":
            return None
        if name == "hdf5":
            part.fetch(part.first(HDF5))
        source = select(open_source(f"{name}:{part.folder}", **options), episodes)
        refs = source.episodes()
        files_of = whole(source).files_of
        of_one = [ref for ref in refs if name != "hdf5" or part.here.issuperset(files_of(ref))]
        if not of_one or not files_of(of_one[0]):
            return None
        part.fetch(files_of(of_one[0]))
        source = select(open_source(f"{name}:{part.folder}", **options), episodes)  # which has seen nothing yet
        refs = source.episodes()
        chosen = [ref for ref in refs if part.here.issuperset(files_of(ref))]
        facts = _Survey(source, _spread(chosen, most), seen).facts()
        if name == "hdf5":
            facts["episodes"] = len(chosen)
        sidecar = find_sidecar(part.folder) if part.folder.is_dir() else None
        more = _made(sidecar) if sidecar is not None else {}
        return {"format": name, "path": where, **facts, "fetched": part.told(), "beside": [], **more}


class _Survey:
    """Some episodes of a source, read one by one; no image is decoded."""

    def __init__(
        self,
        source: Source,
        chosen: Sequence[EpisodeRef],
        seen: Seen | None,
        kept: dict[str, Array] | None = None,
    ) -> None:
        self._kept = kept
        if kept is not None:
            kept.clear()
        self._source = source
        self._seen = seen
        self._refs = source.episodes()
        self._chosen = chosen
        self._tally: dict[str, Counter[str]] = {}
        self._lengths: list[int] = []
        self._solved: list[bool] = []
        self._ranges: dict[str, tuple[Array, Array]] = {}
        self._problems: list[Json] = []
        self._other: list[Json] = []
        self._schema: Schema | None = None
        self._kinds: set[str] = set()
        self._rate: tuple[float, str | None] | None = None

    def facts(self) -> dict[str, Json]:
        """Everything that was found."""
        for place, ref in enumerate(self._chosen):
            try:
                self._add(self._source.read(ref), place)
            except DataError as error:
                self._add_problem(ref, error)
        out: dict[str, Json] = {
            "episodes": len(self._refs),
            "episodes_read": len(self._chosen),
            "bytes": sum(ref.size for ref in self._refs),
            "readable": len(self._lengths),
            "other_files": len(self._other),
            "left_alone": self._other[:_SHOWN],
            "features": self._schema.to_json()["features"] if self._schema is not None else {},
            "kinds": len(self._kinds),
            "undeclared": undeclared(self._schema) if self._schema is not None else [],
            "problem_files": self._problems[:_SHOWN],
        }
        if self._rate is not None:
            out["fps"], out["robot"] = self._rate
        if self._solved:
            out["with_success"] = sum(self._solved)
        if self._lengths:
            mean = float(np.mean(self._lengths))
            out["length"] = {"min": min(self._lengths), "max": max(self._lengths), "mean": mean}
            if out["fps"]:
                out["duration_s"] = round(sum(self._lengths) / out["fps"], 3)
        audit = self._audit(self._rate[0] if self._rate is not None else None)
        if audit is not None:
            out["fps_audit"] = audit
        out["range"] = {
            name: {"min": low.tolist(), "max": high.tolist()} for name, (low, high) in self._ranges.items()
        }
        for key, counter in self._tally.items():
            out[key] = dict(counter.most_common(_SHOWN))
        return out

    def _add(self, episode: Episode, place: int) -> None:
        schema = self._source.schema(episode)
        self._kinds.add(schema.to_text())
        self._schema = self._schema or schema
        self._rate = self._rate or (schema.fps, schema.robot)
        self._lengths.append(len(episode))
        if (solved := episode.succeeded) is not None:
            self._solved.append(solved)
        for name in schema.features:
            array = episode.arrays.get(name)
            if array is not None and array.dtype.kind in "fiu" and array.ndim <= 2 and len(array):
                self._widen(name, array)
        for name, frames in episode.frames.items():
            self._count("image_size", f"{name} {frames.height}x{frames.width}")
        tasks = {str(task) for task in episode.arrays["task"]} if "task" in episode.arrays else {episode.task}
        for task in tasks:
            self._count("instruction", task)
        for note in episode.notes:
            self._count("notes", note)
        self._add_facts(episode.meta)
        if self._seen is not None:
            self._seen(place, len(self._chosen), schema, episode)

    def _add_facts(self, meta: EpisodeMeta) -> None:
        for key, text in _facts(meta):
            self._count(key, text)
        origin = meta.origin
        if origin is None:
            return
        for key, text in _facts({key: value for key, value in origin.items() if key not in _OF_ONE}):
            self._count("origin", f"{key} {text}")
        notes = origin.get("notes")
        for note in notes if isinstance(notes, list) else ():
            self._count("origin", str(note))

    def _add_problem(self, ref: EpisodeRef, error: DataError) -> None:
        if error.ignore:
            self._other.append({"episode": ref.id, "code": error.code, "message": error.message})
            return
        self._count("problems", f"{error.code} {error.name}")
        self._problems.append({"episode": ref.id, "code": error.code, "message": error.message})

    def _count(self, key: str, value: str) -> None:
        self._tally.setdefault(key, Counter())[value] += 1

    def _keep(self, kept: dict[str, Array], name: str, array: Array) -> None:
        rows = array.reshape(len(array), -1)
        before = kept.get(name, rows[:0])
        if len(before) < _STEPS and before.shape[1] == rows.shape[1]:
            kept[name] = np.concatenate([before, rows])

    def _widen(self, name: str, array: Array) -> None:
        if self._kept is not None:
            self._keep(self._kept, name, array)
        low, high = array.min(axis=0), array.max(axis=0)
        if name in self._ranges and self._ranges[name][0].shape == low.shape:
            low, high = np.minimum(low, self._ranges[name][0]), np.maximum(high, self._ranges[name][1])
        self._ranges[name] = (low, high)

    def _audit(self, fps: float | None) -> Json:
        """The declared rate beside that of the recorded times, where the source has any.

        None where neither is known. Nothing is declared where no episode can be read, perhaps for its times.
        """
        found = whole(self._source).time_steps(self._chosen)
        if not len(found):
            return None if fps is None else {"declared": fps, "recorded": None}
        middle = float(np.median(found))
        recorded = 1 / middle if middle > 0 else 0.0
        return {
            "declared": fps,
            "recorded": round(recorded, 3),
            "agree": fps is not None and abs(recorded - fps) <= _TOLERANCE * fps,
            "jitter_ms": round(1e3 * float(np.percentile(np.abs(found - middle), 95)), 3),
        }


def _facts(meta: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Facts that were detected or told, each with its rule."""
    for key, value in meta.items():
        if key in _USUAL or key.endswith("_rule") or not isinstance(value, str | bool):
            continue
        rule = meta.get(f"{key}_rule")
        yield key, f"{value} ({rule})" if rule else str(value)


def _spread(refs: Sequence[EpisodeRef], most: int) -> Sequence[EpisodeRef]:
    if len(refs) <= most:
        return refs
    return [refs[i] for i in np.linspace(0, len(refs) - 1, most).round().astype(int)]
