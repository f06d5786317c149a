"""Several sources as one, each with the steps that bring it to the common schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vla_data.core import Episode, EpisodeMeta, EpisodeRef, Schema, Source
from vla_data.core.base import BaseSource, Root, narrowed, whole
from vla_data.core.curate import Step
from vla_data.core.wanted import Unwanted
from vla_data.errors import UsageError
from vla_data.media.video_settings import VideoCopy
from vla_data.selection.keys import of_source
from vla_data.selection.videos import together


@dataclass(frozen=True)
class Member:
    """One of the sources.

    Attributes:
        name: first part of its episodes' ids; the same on every machine.
        source: any source.
        steps: what its episodes go through first.
    """

    name: str
    source: Source
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.@+-]{1,100}", self.name) or set(self.name) == {"."}:
            raise UsageError("E001", f"{self.name!r} is not a name for a source; use letters, digits, _ . -")


@dataclass(frozen=True)
class MergedSource(BaseSource):
    """The episodes of several sources, one source after the other; ids are ``<member>/<id>``.

    All must have one schema once their steps are done, conventions included: a run into a format that wants one
    refuses others and says what differs.
    """

    members: tuple[Member, ...]
    _by_name: dict[str, Member] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name = {member.name: member for member in self.members}
        if len(by_name) != len(self.members):
            names = ", ".join(member.name for member in self.members)
            raise UsageError("E004", f"two sources have the same name: {names}; give each its own in a mapping")
        object.__setattr__(self, "_by_name", by_name)

    @property
    def roots(self) -> tuple[Root, ...]:
        """Those of all sources."""
        return tuple(root for member in self.members for root in whole(member.source).roots)

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `vla_data.core.base.BaseSource`: of all sources."""
        mine: dict[str, list[EpisodeRef]] = {}
        for ref in refs:
            member, own = self._own(ref)
            mine.setdefault(member.name, []).append(own)
        return {
            f"{name}/{own}": state
            for name, owns in mine.items()
            for own, state in whole(self._by_name[name].source).states(owns).items()
        }

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode of every source."""
        return [
            EpisodeRef(f"{member.name}/{ref.id}", ref.size, ref.where)
            for member in self.members
            for ref in member.source.episodes()
        ]

    def fingerprint(self, ref: EpisodeRef) -> str:
        """Its source's."""
        member, own = self._own(ref)
        return member.source.fingerprint(own)

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode; ``meta.member`` is the source's name."""
        member, own = self._own(ref)
        with of_source(member.name, named=False):
            episode = member.source.read(own)
        return replace(episode, id=ref.id, meta=EpisodeMeta(episode.meta, member=member.name))

    def without(self, unwanted: Unwanted) -> MergedSource:
        """The same episodes, without what neither the steps of their source nor these look at."""
        return MergedSource(
            tuple(
                replace(member, source=narrowed(member.source, (*member.steps, *unwanted.steps)))
                for member in self.members
            )
        )

    def evidence(self, ref: EpisodeRef) -> Mapping[str, Sequence[Any] | None] | None:
        """Its source's."""
        member, own = self._own(ref)
        return whole(member.source).evidence(own)

    def videos(self) -> VideoCopy | None:
        """Those of all sources, after the steps of each."""
        return together((member.source, member.steps) for member in self.members)

    def schema(self, episode: Episode) -> Schema:
        """That of its source, before its steps."""
        name, _, own = episode.id.partition("/")
        with of_source(name):
            return self._by_name[name].source.schema(replace(episode, id=own))

    def steps_of(self, ref: EpisodeRef) -> Sequence[Step]:
        """What episodes of its source go through first."""
        return self._own(ref)[0].steps

    def _own(self, ref: EpisodeRef) -> tuple[Member, EpisodeRef]:
        name, _, own = ref.id.partition("/")
        return self._by_name[name], EpisodeRef(own, ref.size, ref.where)
