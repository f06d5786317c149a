"""One dataset of a mixture: which episodes it has, and each of them as a track when it is asked for."""

from __future__ import annotations

import bisect
import hashlib
import json
import re
import statistics
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data._version import __version__
from vla_data.actions import Convention
from vla_data.actions.agreement import Element, Elements, elements
from vla_data.actions.polarity import Polarity
from vla_data.core import Episode, EpisodeRef, Json, Source
from vla_data.core.base import narrowed, whole
from vla_data.errors import DataError, UsageError
from vla_data.formats import open_source, parse_address
from vla_data.mixtures import pack, rates, track
from vla_data.mixtures.annotations import read_for
from vla_data.mixtures.config import Entry
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.track import Track
from vla_data.mixtures.wanted import Wanted
from vla_data.safety import strict_json
from vla_data.safety.text import show

_NUMBERED: Final = re.compile(r"episode_([0-9]{6,18})")
_DECIDES: Final = ("cameras", "action_freq", "resample", "convention", "extras")
"""What of the contract a track depends on."""
_NOT_OF_TRACKS: Final = ("root", "name", "annotation")
"""What of an entry it does not depend on."""
_FACTS: Final = "facts"
_FACTS_VERSION: Final = 3
_MAX_TRACKS: Final = 8192  # each may hold a map of a file, of which a process has 65,530


class Cache:
    """Tracks that were used last, up to a number of bytes. Safe for threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._tracks: OrderedDict[tuple[int, int], Track] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Cache], tuple[int]]:
        return Cache, (self._limit,)  # another process begins with nothing

    def get(self, key: tuple[int, int]) -> Track | None:
        """The track of (dataset, episode), if it is here."""
        with self._lock:
            found = self._tracks.get(key)
            if found is not None:
                self._tracks.move_to_end(key)
            return found

    def put(self, key: tuple[int, int], value: Track) -> None:
        """Keep a track, and let go of the oldest beyond the limit."""
        with self._lock:
            if key in self._tracks:
                self._size -= self._tracks.pop(key).size
            self._tracks[key] = value
            self._size += value.size
            while len(self._tracks) > 1 and (self._size > self._limit or len(self._tracks) > _MAX_TRACKS):
                self._size -= self._tracks.popitem(last=False)[1].size


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An episode that can't be used, and why."""

    id: str
    code: str
    message: str


class Member:
    """A dataset that has been looked through.

    Attributes:
        entry: as configured.
        name: of the dataset.
        fps: rate of its rows.
        label: steps per second that the dataset says it has, or that were declared instead.
        refs: episodes that can be used.
        numbers: of each, its number in the dataset: ``episode_index`` in LeRobot, elsewhere its position among all
            episodes.
        lengths: rows of each.
        widths: numbers of a state and of an action.
        sizes: camera -> (height, width); None where they differ from episode to episode.
        convention: of its actions as they are stored, or None.
        action_meaning: of each number of an action as it is handed out.
        state_meaning: likewise of a state.
        doubts: of its actions and states, what numbers can't be though it is declared of them -> episodes.
        ranges: "action" and "state" -> the least and the largest of each number, as it is handed out.
        polarity: which way what is commanded as a gripper goes, as far as its states show it.
        left_out: episodes that can't be used.
        found_rates: what says so -> steps per second, the median of all episodes.
        extras: feature -> (dtype, shape of a step).
        annotations: what its annotation says of its frames, or None.
    """

    def __init__(
        self,
        entry: Entry,
        contract: Contract,
        *,
        number: int,
        cache: Cache,
        packs: Path | None,
        fitted: bool = False,
    ) -> None:
        self.entry = entry
        self.name = entry.name or parse_address(entry.root)[1].resolve().name
        self.refs: list[EpisodeRef] = []
        self.numbers: list[int] = []
        self.lengths: list[int] = []
        self.left_out: list[LeftOut] = []
        self.widths = (0, 0)
        self.sizes: dict[str, tuple[int, int] | None] = {}
        self.extras: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.found_rates: dict[str, float] = {}
        self.label = 0.0
        self.convention: Convention | None = None
        self.action_meaning: Elements = ()
        self.state_meaning: Elements = ()
        self.doubts: Counter[str] = Counter()
        self.ranges: dict[str, tuple[list[float], list[float]]] = {}
        self.polarity = Polarity()
        self._facts: dict[str, Json] = {}
        self._contract = contract
        self._number = number
        self._cache = cache
        self._packs = packs
        self._fitted = fitted
        self._source = narrowed(open_source(entry.root, **entry.open), (Wanted.of(entry, contract),))
        root = next((place for place in whole(self._source).roots if isinstance(place, Path)), Path(entry.root))
        self.annotations = read_for(self.name, root, entry.annotation) if entry.annotation else None
        self._lock = threading.Lock()
        self._scan()
        self.bounds = np.cumsum(self.lengths).tolist()

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, which another process makes itself."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        vars(self).update(state)
        self._lock = threading.Lock()

    @property
    def turns(self) -> NDArray[np.float64]:
        """(A,): a whole turn where a number of an action is an angle, else 0."""
        known = [element.turn if element is not None else 0.0 for element in self.action_meaning]
        return np.asarray((known + [0.0] * self.widths[1])[: self.widths[1]])

    @property
    def frames(self) -> int:
        """Rows of all episodes."""
        return sum(self.lengths)

    @property
    def fps(self) -> float:
        """Rate of the rows of its tracks."""
        contract = self._contract
        return contract.action_freq if contract.action_freq and contract.resample == "commands" else self.label

    def locate(self, frame: int) -> tuple[int, int]:
        """Episode and row of a frame, counted over all episodes."""
        episode = bisect.bisect_right(self.bounds, frame)
        return episode, frame - (self.bounds[episode - 1] if episode else 0)

    def track(self, episode: int) -> Track:
        """An episode, from memory where it is there.

        Raises:
            DataError: it can't be read any more, or is another than it was.
        """
        key = (self._number, episode)
        found = self._cache.get(key)
        if found is not None:
            return found
        with self._lock:  # sources need not be safe for threads; nor is it any use to read an episode twice
            found = self._cache.get(key)
            if found is None:
                ref = self.refs[episode]
                found = self._load(ref)[0]
                if found.length != self.lengths[episode]:
                    raise DataError(
                        "E301", f"{show(ref.id)} has {found.length} rows, and had {self.lengths[episode]}"
                    )
                self._cache.put(key, found)
            return found

    # -- looking through ----------------------------------------------------------------------------

    def _scan(self) -> None:
        evidence: dict[str, list[float]] = defaultdict(list)
        for number, ref in self._selected(self._source):
            try:
                made, facts = self._load(ref)
                self._agree(made, facts)
                if self.annotations is not None:
                    self.annotations.at(number, made.arrays[track.INDEX])
            except DataError as error:
                if not error.ignore:
                    self.left_out.append(LeftOut(ref.id, error.code, error.message))
                continue
            for name, rate in facts["rates"].items():
                evidence[name].append(rate)
            self.doubts.update(facts["doubts"])
            self._widen(made)
            self.polarity.add(made.arrays[track.ACTION], made.arrays[track.STATE])
            self._cache.put((self._number, len(self.refs)), made)
            self.refs.append(ref)
            self.numbers.append(number)
            self.lengths.append(made.length)
        self.found_rates = {name: statistics.median(found) for name, found in evidence.items()}

    def _widen(self, made: Track) -> None:
        for name in (track.ACTION, track.STATE):
            rows = made.arrays[name]
            low, high = rows.min(axis=0), rows.max(axis=0)
            if name in self.ranges:
                before = self.ranges[name]
                low, high = np.minimum(low, before[0]), np.maximum(high, before[1])
            self.ranges[name] = low.tolist(), high.tolist()

    def _selected(self, source: Source) -> Sequence[tuple[int, EpisodeRef]]:
        """The wanted episodes, each with its number in the dataset."""
        refs = source.episodes()
        numbers = [int(match[1]) for ref in refs if (match := _NUMBERED.fullmatch(ref.id))]
        if len(set(numbers)) != len(refs):
            numbers = list(range(len(refs)))
        known = {number: at for at, number in enumerate(numbers)}
        if self.entry.episodes is None:
            return [(number, refs[at]) for number, at in known.items()]
        missing = [number for number in self.entry.episodes if number not in known]
        if missing:
            raise UsageError("E007", f"{show(self.name)} has no episode {missing[0]}")
        return [(number, refs[known[number]]) for number in sorted(self.entry.episodes)]

    def _load(self, ref: EpisodeRef) -> tuple[Track, dict[str, Json]]:
        """A track, and what its episode says of its dataset: ``label``, ``rates``, and what numbers mean."""
        path = self._pack(ref)
        if path is not None and path.is_file():
            try:
                made = pack.read(path)
                return made, strict_json.loads(made.arrays[_FACTS].tobytes(), name="facts")
            except (DataError, KeyError):
                path.unlink(missing_ok=True)  # it is made anew below
        episode = self._source.read(ref)
        schema = self._source.schema(episode)
        made = track.make(episode, schema, self.entry, self._contract)
        meaning = track.action_convention(schema, self.entry)
        entry = replace(self.entry, state=track.state_features(episode, self.entry, self._contract))
        states = track.state_conventions(schema, entry)
        handed = track.handed_out(schema, entry, self._contract)
        facts: dict[str, Json] = {
            "label": self.entry.fps or schema.fps,
            "doubts": track.doubts(episode, schema, entry),
            "rates": rates.evidence(episode, schema, self.entry),
            "convention": None if meaning is None else meaning.to_json(),
            "action": None if handed is None else handed.to_json(),
            "state": [[width, None if of is None else of.to_json()] for width, of in states],
        }
        if path is not None and (self._fitted or pack.can_pack(made)):
            text = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
            made = pack.fitted(made, self._contract) if self._fitted else made
            pack.write(replace(made, arrays={**made.arrays, _FACTS: text}), path, pixels=self._fitted)
            made = pack.read(path)
        else:
            made = self._located(ref, episode, made)
        return made, facts

    def _located(self, ref: EpisodeRef, episode: Episode, made: Track) -> Track:
        """A track whose images stay in the source's file instead of in memory, where all of them can."""
        features = {camera: track.camera_feature(camera, episode, self.entry) for camera in made.frames}
        wanted = {features[camera]: frames for camera, frames in made.frames.items()}
        found = whole(self._source).locate_images(ref, wanted) if wanted else {}
        if found.keys() != wanted.keys() or not found:
            return made
        frames = {camera: replace(kept, items=found[features[camera]]) for camera, kept in made.frames.items()}
        memory = sum(array.nbytes for array in made.arrays.values()) + 200 * sum(map(len, frames.values()))
        return replace(made, frames=frames, size=memory)

    def _pack(self, ref: EpisodeRef) -> Path | None:
        if self._packs is None:
            return None
        entry = {
            name: getattr(self.entry, name) for name in Entry.__dataclass_fields__ if name not in _NOT_OF_TRACKS
        }
        contract = {name: value for name, value in self._contract.to_json().items() if name in _DECIDES}
        target, needs_state = repr(self._contract.target), self._contract.needs_state
        facts = [__version__, _FACTS_VERSION, repr(entry), repr(self._source), contract, target, needs_state]
        facts += [self._contract.image_size, self._contract.resize] if self._fitted else []
        wanted = json.dumps(facts, sort_keys=True)
        key = hashlib.sha256(
            f"{self._source.fingerprint(ref)}\0{ref.id}\0{wanted}".encode("utf-8", "surrogateescape")
        )
        return self._packs / key.hexdigest()[:2] / f"{key.hexdigest()}.pack"

    def _agree(self, made: Track, facts: dict[str, Json]) -> None:
        """That an episode is like the ones before.

        Raises:
            DataError: E203 or E221, it is not.
        """
        label = facts["label"]
        widths = (made.arrays[track.STATE].shape[1], made.arrays[track.ACTION].shape[1])
        extras = {
            name: (made.arrays[key].dtype.str, made.arrays[key].shape[1:])
            for name in self._contract.extras
            if (key := track.EXTRA.format(name)) in made.arrays
        }
        if not self.label:
            self.label, self.widths, self.extras = label, widths, extras
            self.convention, self._facts = _convention(facts["convention"]), facts
            self.action_meaning, self.state_meaning = self._meanings(facts)
            self.sizes = {camera: (f.height, f.width) for camera, f in made.frames.items()}
            return
        if label != self.label:
            raise DataError("E221", f"{label:g} steps a second, where episodes before have {self.label:g}")
        if widths != self.widths:
            raise DataError(
                "E203", f"states and actions of {widths} numbers, where episodes before have {self.widths}"
            )
        same = all(facts[part] == self._facts[part] for part in (track.ACTION, track.STATE))
        if not same and self._meanings(facts) != (self.action_meaning, self.state_meaning):
            raise DataError("E203", "its numbers are declared to mean something else than in episodes before")
        shapes = {name: shape for name, (_, shape) in extras.items()}
        if shapes != {name: shape for name, (_, shape) in self.extras.items()}:
            raise DataError("E203", "extras of other shapes than in episodes before")
        for camera, frames in made.frames.items():
            if self.sizes.get(camera) != (frames.height, frames.width):
                self.sizes[camera] = None

    def _meanings(self, facts: dict[str, Json]) -> tuple[Elements, Elements]:
        """What each number of an action and of a state means, in the order in which they are handed out."""
        action = _convention(facts["action"])
        states = [elements(_convention(of), width) for width, of in facts["state"]]
        width = self.widths[1] if action is None else max(self.widths[1], action.width)
        whole = [element for state in states for element in state]
        return _taken(elements(action, width), self.entry.action_index), _taken(whole, self.entry.state_index)

    def identity(self) -> Json:
        """What the stream depends on: the episodes and their lengths."""
        return [self.name, [[ref.id, length] for ref, length in zip(self.refs, self.lengths, strict=True)]]


def _convention(facts: Json) -> Convention | None:
    return None if facts is None else Convention.from_json(facts)


def _taken(meaning: Elements, index: Sequence[int]) -> list[Element | None]:
    return [meaning[i] if i < len(meaning) else None for i in index or range(len(meaning))]
