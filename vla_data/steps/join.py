"""Parts of an action, or of a state, as the one vector that trainers look for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from vla_data.core import Array, Episode, Feature, Schema
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

_LAYOUT: Final = "layout"
_OF_ALL: Final = "size"


@dataclass(frozen=True, kw_only=True)
class Join:
    """Puts features after one another as one vector a step; the parts themselves go.

    Which parts there are and in which order is the user's word: no format says it. Numbers keep their values; the
    type is one that holds those of all parts. What the vector means is what the parts say where all of them have
    a layout and agree on everything else, and is undeclared otherwise.

    Attributes:
        name: of the vector.
        parts: names of at least two features, in the order of the vector; each ``(T, ...)`` numbers.
    """

    name: str
    parts: tuple[str, ...]
    bucket: ClassVar[str] = "pruned"
    reason: ClassVar[str] = "no_frame_is_dropped"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if len(self.parts) < 2 or len(set(self.parts)) != len(self.parts):
            raise ValueError(f"{self.name} is joined of {', '.join(self.parts)}: at least two parts, each once")

    def needs(self, name: str) -> bool:
        """The parts, and what is called like the vector already."""
        return name in self.parts or name == self.name

    def becomes(self, name: str) -> str | None:
        """None for a part."""
        return None if name in self.parts else name

    def apply(self, episode: Episode) -> Episode:
        """See `vla_data.Transform`.

        Raises:
            DataError: E206 for a part that is not there, E203 for one of texts or images, or a name that is taken.
        """
        if self.name in {*episode.arrays, *episode.frames} - {*self.parts}:
            raise DataError("E203", f"{show(self.name)} can't be joined: it is there already")
        rows = [self._rows(episode, part) for part in self.parts]
        joined = np.concatenate(rows, axis=1, dtype=np.result_type(*rows))
        arrays = {name: array for name, array in episode.arrays.items() if name not in self.parts}
        final = {name: value for name, value in episode.final.items() if name not in self.parts}
        last = [np.asarray(episode.final[part]) for part in self.parts if part in episode.final]
        if len(last) == len(self.parts):
            final[self.name] = np.concatenate([value.reshape(len(value), -1) for value in last], axis=1)
        return replace(episode, arrays={**arrays, self.name: joined}, final=final)

    def describe(self, schema: Schema) -> Schema:
        """The schema of the results.

        Raises:
            UsageError: E206 when there is no such part.
        """
        if missing := [part for part in self.parts if part not in schema.features]:
            raise UsageError("E206", _missing(missing[0], schema.features))
        found = [schema.features[part] for part in self.parts]
        names = [name for part, feature in zip(self.parts, found, strict=True) for name in _names(part, feature)]
        features = {name: feature for name, feature in schema.features.items() if name not in self.parts}
        dtype = np.result_type(*(np.dtype(feature.dtype) for feature in found if _is_number(feature)))
        joined = Feature(dtype=str(dtype), shape=(len(names),), names=tuple(names), convention=_convention(found))
        return replace(schema, features={**features, self.name: joined})

    def _rows(self, episode: Episode, part: str) -> Array:
        if part not in episode.arrays:
            raise DataError("E206", _missing(part, [*episode.arrays, *episode.frames]))
        array = episode.arrays[part]
        if array.dtype.kind not in "biuf":
            raise DataError("E203", f"{show(part)} is no numbers, and can't be a part of {show(self.name)}")
        rows: Array = array.reshape(len(array), -1)
        return rows


def _missing(part: str, there: Sequence[str] | Mapping[str, Any]) -> str:
    return f"there is no feature {show(part)} to join; there is {', '.join(show(name) for name in sorted(there))}"


def _is_number(feature: Feature) -> bool:
    return feature.dtype not in ("image", "string")


def _names(part: str, feature: Feature) -> list[str]:
    """A name for each number of a part: its own, or the part's last word and the position."""
    count = math.prod(feature.shape)
    if feature.names is not None and len(feature.names) == count:
        return list(feature.names)
    last = part.rpartition(".")[2]
    return [last] if count == 1 else [f"{last}_{i}" for i in range(count)]


def _convention(parts: Sequence[Feature]) -> dict[str, Any]:
    """What the vector means, as far as all parts say it alike."""
    facts = [{k: v for k, v in part.convention.items() if k not in (_LAYOUT, _OF_ALL)} for part in parts]
    layout: dict[str, list[int]] = {}
    start = 0
    for part in parts:
        own = part.convention.get(_LAYOUT)
        if not isinstance(own, Mapping) or not own or not own.keys().isdisjoint(layout):
            return {}
        layout |= {name: [start + int(position) for position in positions] for name, positions in own.items()}
        start += math.prod(part.shape)
    return {**facts[0], _LAYOUT: layout} if all(each == facts[0] for each in facts) else {}
