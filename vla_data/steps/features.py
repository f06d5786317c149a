"""Which features an episode has and what they are called. Frames are never dropped, so the ledger stays as it is.

Names may be patterns of the shell, such as ``observation.images.*``. ``task`` is no feature but the episode's
text, and stays.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final, TypeVar

import numpy as np

from vla_data import options as checks
from vla_data.actions.convention import Convention, check_parts
from vla_data.core import Episode, Feature, Schema
from vla_data.core.notes import LEFT_OUT, NAMES_NOTHING
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.media.images import MAX_SIDE
from vla_data.safety.text import show

V = TypeVar("V")

TASK: Final = "task"
_NOTE: Final = f"{LEFT_OUT}:"
IS_PAD: Final = "{}_is_pad"
# Those of numbers, and what sources say of images.
_KEYS: Final = {f.name for f in fields(Convention) if f.name != "other"} | {"colour", "orientation", "time"}


class _Features:
    """A transform that keeps every frame; see `vla_data.core.wanted.Names`."""

    bucket: ClassVar[str] = "pruned"
    reason: ClassVar[str] = "no_frame_is_dropped"

    def needs(self, name: str) -> bool:
        """Whether it looks at a feature."""
        return False

    def becomes(self, name: str) -> str | None:
        """What it calls a feature; None where it drops it."""
        return name


@dataclass(frozen=True, kw_only=True)
class Rename(_Features):
    """Gives features other names; what they hold and mean stays.

    Attributes:
        names: (old, new), each old name once. A name that an episode lacks is an error of that episode.
    """

    names: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        for position, what in enumerate(("old", "new")):
            column = checks.texts("rename", [pair[position] for pair in self.names])
            if len(set(column)) != len(column):
                raise ValueError(f"rename has an {what} name twice: {', '.join(column)}")

    def needs(self, name: str) -> bool:
        """A name that is changed must be there."""
        return name in dict(self.names)

    def becomes(self, name: str) -> str:
        """Its new name."""
        return dict(self.names).get(name, name)

    def apply(self, episode: Episode) -> Episode:
        """See `vla_data.Transform`.

        Raises:
            DataError: E206 when a feature is missing, E203 when a new name is taken.
        """
        present = {*episode.arrays, *episode.frames}
        for old, new in self.names:
            if old not in present:
                raise DataError("E206", f"there is no feature {show(old)} to rename; known are {_listed(present)}")
            if new in present and new not in dict(self.names):
                raise DataError("E203", f"{show(old)} can't become {show(new)}, which is there already")
        return replace(
            episode,
            arrays=self._renamed(episode.arrays),
            frames=self._renamed(episode.frames),
            final=self._renamed(episode.final),
        )

    def describe(self, schema: Schema) -> Schema:
        """The schema of the results."""
        return replace(schema, features=self._renamed(schema.features))

    def _renamed(self, values: Mapping[str, V]) -> dict[str, V]:
        names = dict(self.names)
        return {names.get(name, name): value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class SelectFeatures(_Features):
    """Keeps some features.

    Attributes:
        keep: patterns of features that stay; empty: all.
        drop: patterns of those that go, also where ``keep`` names them.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("keep", "drop"):
            object.__setattr__(self, name, checks.texts(name, getattr(self, name)))

    def becomes(self, name: str) -> str | None:
        """None for what goes."""
        return name if name == TASK or self._stays(name) else None

    def apply(self, episode: Episode) -> Episode:
        """See `vla_data.Transform`. What goes is noted, as the source notes what it did not read for this.

        Raises:
            DataError: E206 when a pattern of ``keep`` fits nothing.
        """
        unread = [note.removeprefix(_NOTE) for note in episode.notes if note.startswith(_NOTE)]
        present = [*episode.arrays, *episode.frames]
        known = [*present, *unread]
        idle = [pattern for pattern in self.drop if not any(fnmatch.fnmatchcase(name, pattern) for name in known)]
        if any(self.becomes(name) is not None for name in unread):  # it was left out by a name of before
            idle = []
        for pattern in self.keep:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
                raise DataError(
                    "E206",
                    f"there is no feature {show(pattern)} to keep; known are {_listed(known)}",
                )
        return replace(
            episode,
            arrays=self._kept(episode.arrays),
            frames=self._kept(episode.frames),
            final=self._kept(episode.final),
            notes=(
                *episode.notes,
                *(_NOTE + name for name in present if self.becomes(name) is None),
                *(f"{NAMES_NOTHING}:{pattern}" for pattern in idle),
            ),
        )

    def describe(self, schema: Schema) -> Schema:
        """The schema of the results."""
        return replace(schema, features=self._kept(schema.features))

    def _kept(self, values: Mapping[str, V]) -> dict[str, V]:
        return {name: value for name, value in values.items() if self.becomes(name) is not None}

    def _stays(self, name: str) -> bool:
        wanted = not self.keep or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.keep)
        return wanted and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.drop)


@dataclass(frozen=True, kw_only=True)
class Fill(_Features):
    """Gives episodes that lack a feature a constant one, and all episodes a mask ``<name>_is_pad``.

    So data sets of which one has, say, a wrist camera and the other has not become one, and a trainer can tell.

    Attributes:
        name: the feature.
        shape: of one step; ``(height, width, 3)`` for images.
        dtype: NumPy's name of the element type, or ``image``.
        value: of every element.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    value: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(checks.whole("shape", n, low=1) for n in self.shape))
        if self.dtype == "image":
            if len(self.shape) != 3 or self.shape[2] != 3 or max(self.shape) > MAX_SIDE:
                raise ValueError(f"shape is {self.shape}, not (height, width, 3)")
            if not 0 <= self.value <= 255 or self.value != int(self.value):
                raise ValueError(f"value is {self.value}; a pixel is 0 to 255")
        else:
            checks.one_of("dtype", self.dtype, ("float32", "float64", "int32", "int64", "bool"))
            object.__setattr__(self, "value", checks.number("value", self.value))

    def needs(self, name: str) -> bool:
        """Whether the feature is there already."""
        return name == self.name

    def apply(self, episode: Episode) -> Episode:
        """See `vla_data.Transform`.

        Raises:
            DataError: E203 when the feature is there in another size or type.
        """
        arrays, frames = dict(episode.arrays), dict(episode.frames)
        there = self.name in arrays or self.name in frames
        if there:
            self._check(episode)
        elif self.dtype == "image":
            height, width, _ = self.shape
            image = np.full(self.shape, int(self.value), dtype=np.uint8)
            frames[self.name] = Frames((image,) * len(episode), height, width)
        else:
            arrays[self.name] = np.full((len(episode), *self.shape), self.value, dtype=self.dtype)
        arrays[IS_PAD.format(self.name)] = np.full(len(episode), not there)
        return replace(episode, arrays=arrays, frames=frames)

    def describe(self, schema: Schema) -> Schema:
        """The schema of the results."""
        features = dict(schema.features)
        features.setdefault(self.name, Feature(dtype=self.dtype, shape=self.shape))
        features[IS_PAD.format(self.name)] = Feature(dtype="bool", shape=(1,))
        return replace(schema, features=features)

    def _check(self, episode: Episode) -> None:
        if self.name in episode.frames:
            frames = episode.frames[self.name]
            found: tuple[str, tuple[int, ...]] = ("image", (frames.height, frames.width, 3))
        else:
            array = episode.arrays[self.name]
            found = (str(array.dtype), array.shape[1:] or (1,))
        if found != (self.dtype, self.shape):
            raise DataError("E203", f"{show(self.name)} is {found[0]}{found[1]}, not {self.dtype}{self.shape}")


@dataclass(frozen=True, kw_only=True)
class Declare(_Features):
    """States what nobody has declared, or corrects it.

    Attributes:
        conventions: (feature, ((key, value), ...)); the keys given replace those of the feature.
        robot: robot type, or None to leave it.
    """

    conventions: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    robot: str | None = None

    def needs(self, name: str) -> bool:
        """What is declared must be there."""
        return name in dict(self.conventions)

    def apply(self, episode: Episode) -> Episode:
        """The same episode."""
        return episode

    def describe(self, schema: Schema) -> Schema:
        """The schema with the conventions.

        Raises:
            UsageError: E206 when there is no such feature, E001 for a key that no convention has, E232 for a value
                that a key can't have, or for a layout of other numbers than the feature's.
        """
        features = dict(schema.features)
        for name, facts in self.conventions:
            if name not in features:
                raise UsageError("E206", f"there is no feature {show(name)}; known are {_listed(features)}")
            for key in dict(facts):
                if key not in _KEYS and key not in features[name].convention:
                    raise UsageError("E001", f"{show(name)} can't have {show(key)}: {_advice(key)}")
            feature = replace(features[name], convention={**features[name].convention, **dict(facts)})
            _check_declared(name, feature)
            if isinstance(dict(facts).get("layout"), Mapping):
                check_parts(dict(facts)["layout"])
            features[name] = feature
        return replace(schema, features=features, robot=self.robot or schema.robot)


def _check_declared(name: str, feature: Feature) -> None:
    try:
        declared = Convention.from_json(feature.convention)
    except UsageError as error:
        raise UsageError(error.code, f"{show(name)}: {error.message}") from None
    width = feature.shape[0] if len(feature.shape) == 1 else None
    if width is not None and (declared.width > width or declared.size not in (None, width)):
        raise UsageError(
            "E232",
            f"{show(name)} has {width} numbers, and a vector of {declared.width} is declared (layout, size)",
        )


def _advice(key: str) -> str:
    """What somebody may have meant by a key that no convention has."""
    first = key.partition(".")[0]
    if first != key and first in _KEYS:
        return f'{first} is one value, such as layout={{"joints": [0, 1, 2]}}'
    close = difflib.get_close_matches(key, sorted(_KEYS), n=1)
    return f"did you mean {close[0]}?" if close else f"a convention has {', '.join(sorted(_KEYS))}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(show(name) for name in sorted(names))
