"""Two datasets side by side: features, conventions, statistics, and which episodes both have by their content.

An episode's content is its instruction, every number of the features that both datasets have (apart from counters
and times; as float64, so that another type with the same values is no other content), and the pixels of the
cameras that both have. Images are decoded only of episodes that have the same numbers and not the same bytes.
Images inside of videos are compared where that is asked for, because it takes decoding all of them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from vla_data.core import Array, Episode, EpisodeRef, Json, Schema, Source
from vla_data.core.findings import Section, html_of, text_of
from vla_data.core.unneeded import lenient
from vla_data.errors import DataError, RefusedError
from vla_data.formats import open_source
from vla_data.measuring.likeness import is_content
from vla_data.media.frames import ClipFrame
from vla_data.safety.text import show
from vla_data.statistics.collect import collect
from vla_data.statistics.vectors import Described

Kind = Literal["only_a", "only_b", "numbers", "pictures"]
_TOLD: Final[Mapping[Kind, str]] = {
    "only_a": "only in A",
    "only_b": "only in B",
    "numbers": "other numbers or text under the same id",
    "pictures": "same numbers, other pictures",
}
_FIGURES: Final = ("min", "q01", "mean", "q99", "max", "std")
_SHOWN: Final = 20
_ROWS: Final = 200

UNSAID: Final = ("fps", "task")
"""What nobody is asked for: of a dataset that does not say it, that is what is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What tells two datasets apart.

    Attributes:
        features: lines, each a name and how it differs: there or not, type, shape, names, a fact of its
            convention, or the rate and the robot.
        statistics: feature -> figure -> ``(a, b)``, each of ``(width,)``; only where they differ.
        episodes: kind -> ids; `Kind` of what differs.
        same: episodes that both have, with the same content.
        unread: ids of episodes that one of them can't read, with the message.
        blind: features with images inside of videos, which were not compared.
    """

    features: tuple[tuple[str, str], ...]
    statistics: Mapping[str, Mapping[str, tuple[Array, Array]]]
    episodes: Mapping[Kind, tuple[str, ...]]
    same: int
    unread: tuple[tuple[str, str], ...] = ()
    blind: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether nothing was found that differs."""
        return not (self.features or self.statistics or any(self.episodes.values()) or self.unread)

    def to_json(self) -> dict[str, Json]:
        """JSON-ready."""
        return {
            "equal": self.is_equal,
            "features": [{"feature": name, "difference": text} for name, text in self.features],
            "statistics": {
                name: {key: {"a": a.tolist(), "b": b.tolist()} for key, (a, b) in figures.items()}
                for name, figures in self.statistics.items()
            },
            "episodes": {"same": self.same, **{kind: list(ids) for kind, ids in self.episodes.items()}},
            "unread": [{"episode": name, "message": text} for name, text in self.unread],
            "not_compared": list(self.blind),
        }

    def sections(self) -> tuple[Section, ...]:
        """For a person."""
        notes = [f"{show(name)}: unreadable, {show(text, escaped=True)}" for name, text in self.unread[:_SHOWN]]
        if self.blind:
            notes.append(f"Not compared, inside of videos: {', '.join(map(show, self.blind))} (--decode-video).")
        rows = [("the same in both", f"{self.same:,}")]
        for kind, ids in self.episodes.items():
            if ids:
                rows.append((_TOLD[kind], f"{len(ids):,}"))
                more = ", ..." if len(ids) > _SHOWN else ""
                notes.insert(0, f"{_TOLD[kind]}: {', '.join(map(show, ids[:_SHOWN]))}{more}")
        figures = list(self._figures())
        cut = (f"And {len(figures) - _ROWS:,} more.",) if len(figures) > _ROWS else ()
        return (
            Section(title="Episodes", rows=tuple(rows), right=frozenset({1}), notes=tuple(notes)),
            Section(
                title="Features",
                notes=tuple(f"{show(name)}: {show(text, escaped=True)}" for name, text in self.features)
                or ("No difference.",),
            ),
            Section(
                title="Statistics",
                head=("feature", "figure", "A", "B") if figures else (),
                rows=tuple(figures[:_ROWS]),
                right=frozenset({2, 3}),
                notes=cut if figures else ("No difference.",),
            ),
        )

    def _figures(self) -> Iterator[tuple[str, str, str, str]]:
        for name, figures in self.statistics.items():
            for key, (a, b) in figures.items():
                for i in np.flatnonzero(a != b):
                    label = name if len(a) == 1 else f"{name}[{i}]"
                    yield show(label), key, f"{a[i]:.6g}", f"{b[i]:.6g}"

    def __str__(self) -> str:
        return text_of(self.sections())

    def _repr_html_(self) -> str:
        return html_of(self.sections())


@dataclass(slots=True)
class _Side:
    """One of the two, read."""

    source: Source
    schema: Schema | None = None
    refs: dict[str, EpisodeRef] = field(default_factory=dict)
    numbers: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pictures: dict[str, dict[str, bytes]] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)
    blind: set[str] = field(default_factory=set)


def diff(
    a: str | Path | Source,
    b: str | Path | Source,
    *,
    decode_video: bool = False,
    on_progress: Callable[[int, int], object] | None = None,
    **options: Any,
) -> Difference:
    """Compare two datasets of any formats.

    Args:
        a: an address, or a source.
        b: the same.
        decode_video: also compare pictures inside of videos.
        on_progress: called with how many episodes are done, and how many there are in both.
        **options: of the sources, for each address whose format has them.

    Raises:
        UsageError: one of them is no dataset, or needs an option.
    """
    opened = [open_source(one, **options) if isinstance(one, str | Path) else one for one in (a, b)]
    sources = [lenient(one, UNSAID) for one in opened]
    total = sum(len(source.episodes()) for source in sources)
    sides, done = [], 0
    for source in sources:
        side = _Side(source)
        for ref in source.episodes():
            try:
                episode = source.read(ref)
                side.schema = side.schema or source.schema(episode)
                side.numbers[ref.id] = dict(_numbers(episode))
                side.pictures[ref.id] = dict(_pictures(episode, side.blind, video=decode_video))
                side.refs[ref.id] = ref
            except DataError as error:
                if not error.ignore:
                    side.unread.append((ref.id, str(error)))
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        sides.append(side)
    one, other = sides
    episodes, same = _episodes(one, other)
    return Difference(
        features=tuple(_features(one.schema, other.schema)),
        statistics=_statistics(*(_collected(side, _compared(one, other)) for side in sides)),
        episodes=episodes,
        same=same,
        unread=(*one.unread, *other.unread),
        blind=tuple(sorted(one.blind | other.blind)),
    )


def _numbers(episode: Episode) -> Iterator[tuple[str, bytes]]:
    """Of each array, and of the instruction, a digest of its values."""
    yield "", hashlib.sha256(episode.task.encode("utf-8", "surrogatepass")).digest()
    for name, array in episode.arrays.items():
        if is_content(name):
            if array.dtype.kind in "fiub":
                data = np.ascontiguousarray(array.reshape(len(array), -1), dtype="<f8").tobytes()
            else:
                data = repr(array.tolist()).encode("utf-8", "surrogatepass")
            yield name, hashlib.sha256(data).digest()


def _pictures(episode: Episode, blind: set[str], *, video: bool) -> Iterator[tuple[str, bytes]]:
    """Of each camera, a digest of its images' bytes as stored, or pixels where they are no files of their own."""
    for name, frames in episode.frames.items():
        if not video and any(isinstance(item, ClipFrame) for item in frames.items):
            blind.add(name)
            continue
        sha256 = hashlib.sha256()
        for i, item in enumerate(frames.items):
            data = bytes(item) if isinstance(item, bytes | memoryview) else frames.pixels(i).tobytes()
            sha256.update(len(data).to_bytes(8, "little") + data)
        yield name, sha256.digest()


def _episodes(a: _Side, b: _Side) -> tuple[dict[Kind, tuple[str, ...]], int]:
    """Which episodes differ how, and how many do not. Those with the same content are matched first, whatever
    their ids, each with one other; then those whose numbers are the same, then those with the same id.
    """
    names = _common(a.numbers, b.numbers)
    cameras = _common(a.pictures, b.pictures)

    def numbers(side: _Side, id: str) -> tuple[bytes | None, ...]:
        return tuple(side.numbers[id].get(name) for name in names)

    def content(side: _Side, id: str) -> tuple[object, ...]:
        return numbers(side, id), tuple(side.pictures[id].get(name) for name in cameras)

    left, right = list(a.pictures), list(b.pictures)
    left, right, same = _matched(left, right, content, a, b)
    left, right, alike = _matched(left, right, numbers, a, b)
    pictures = tuple(one for one, other in alike if not _same_pixels((a, one), (b, other), cameras))
    left, right, changed = _matched(left, right, lambda side, id: id, a, b)
    told: dict[Kind, tuple[str, ...]] = {
        "only_a": tuple(left),
        "only_b": tuple(right),
        "numbers": tuple(one for one, _ in changed),
        "pictures": pictures,
    }
    return told, len(same) + len(alike) - len(pictures)


def _common(a: Mapping[str, Mapping[str, bytes]], b: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    """Names that some episode of either has."""
    return sorted({name for one in a.values() for name in one} & {name for one in b.values() for name in one})


def _same_pixels(one: tuple[_Side, str], other: tuple[_Side, str], cameras: Sequence[str]) -> bool:
    first, second = (side.source.read(side.refs[id]).frames for side, id in (one, other))
    for name in cameras:
        x, y = first.get(name), second.get(name)
        if x is None or y is None or len(x) != len(y):
            return False
        if not all(np.array_equal(x.pixels(i), y.pixels(i)) for i in range(len(x))):
            return False
    return True


def _matched(
    left: Sequence[str], right: Sequence[str], key: Callable[[_Side, str], object], a: _Side, b: _Side
) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """What is left of two lists when those of equal keys are taken away in pairs, and these pairs."""
    waiting: dict[object, list[str]] = defaultdict(list)
    for id in reversed(right):
        waiting[key(b, id)].append(id)
    rest: list[str] = []
    pairs: list[tuple[str, str]] = []
    for id in left:
        found = waiting[key(a, id)]
        if found:
            pairs.append((id, found.pop()))
        else:
            rest.append(id)
    taken = {id for _, id in pairs}
    return rest, [id for id in right if id not in taken], pairs


def _features(a: Schema | None, b: Schema | None) -> Iterator[tuple[str, str]]:
    if a is None or b is None:
        if a is not b:
            yield "", f"no episode of {'A' if a is None else 'B'} can be read"
        return
    for key, x, y in (("fps", a.fps or None, b.fps or None), ("robot", a.robot, b.robot)):
        if x != y:
            yield key, f"{_told(x)} in A, {_told(y)} in B"
    for name in sorted(a.features.keys() | b.features.keys()):
        if name not in a.features or name not in b.features:
            yield name, f"only in {'A' if name in a.features else 'B'}"
            continue
        one, other = a.features[name].to_json(), b.features[name].to_json()
        facts = [one.pop("convention"), other.pop("convention")]
        pairs = [(key, one[key], other[key]) for key in one]
        keys = sorted(facts[0].keys() | facts[1].keys())
        pairs += [(f"convention {key}", facts[0].get(key), facts[1].get(key)) for key in keys]
        for key, x, y in pairs:
            if x != y:
                yield name, f"{key} {_told(x)} in A, {_told(y)} in B"


def _told(value: Json) -> str:
    return "not declared" if value in (None, "undeclared") else str(value)


def _compared(a: _Side, b: _Side) -> list[str]:
    """Features of numbers that both have."""
    schemas = [side.schema.features if side.schema is not None else {} for side in (a, b)]
    return [
        name
        for name in _common(a.numbers, b.numbers)
        if all(name in known and known[name].dtype not in ("string", "image") for known in schemas)
    ]


def _collected(side: _Side, names: Sequence[str]) -> Mapping[str, Described]:
    try:
        return collect(side.source, names=names).features if names else {}
    except RefusedError:  # it has no episode with numbers that can be read, which the episodes tell
        return {}


def _statistics(
    a: Mapping[str, Described], b: Mapping[str, Described]
) -> dict[str, dict[str, tuple[Array, Array]]]:
    """Figures of features that both have, with as many numbers, where one of them differs."""
    out: dict[str, dict[str, tuple[Array, Array]]] = {}
    for name in sorted(filter(is_content, a.keys() & b.keys())):
        if len(a[name].min) != len(b[name].min):
            continue  # their shapes are told as features
        both = {key: (x, y) for key, x, y in zip(_FIGURES, _row(a[name]), _row(b[name]), strict=True)}
        wrong = {key: pair for key, pair in both.items() if (pair[0] != pair[1]).any()}
        if a[name].count != b[name].count:
            wrong["count"] = (np.array([a[name].count]), np.array([b[name].count]))
        if wrong:
            out[name] = wrong
    return out


def _row(stats: Described) -> tuple[Array, ...]:
    q01, q99 = stats.quantiles([0.01, 0.99])
    return tuple(np.asarray(x).ravel() for x in (stats.min, q01, stats.mean, q99, stats.max, stats.std))
