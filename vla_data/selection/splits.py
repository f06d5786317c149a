"""Which episodes are for training and which are not: by a stable hash of the group that they belong to.

**The rule.** A group's number in [0, 1) is `vla_data.names.unit_hash` of its name and the seed. Below ``val``
it is "val", below ``val + test`` it is "test", else "train". So a group is never in two splits, every machine
gives the same, adding or removing episodes moves no others, and neither ``test`` nor a larger ``val`` takes an
episode out of "val".

**Groups that hang together.** An episode with several instructions joins the groups of all of them, and where the
digests of contents are known (a dataset of ours), episodes with one content join theirs. Groups that are joined
are one, with the least of their names. That is the one case in which a new episode may move others: it joins
groups that were apart. By "episode", an episode of known content is the group of that content: there none moves.

**Shares.** They are of groups, and only about right: few groups give a split that is larger or smaller, and may
leave it empty, about which there is a warning. No group is moved to fill it, since the next episode that comes
would move it back; another seed or share may do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vla_data import options as checks
from vla_data.core import EpisodeMeta, EpisodeRef, Json, Source
from vla_data.core.findings import Section, html_of, text_of
from vla_data.errors import DataError, UsageError
from vla_data.names import unit_hash
from vla_data.safety.text import show

NAMES: Final = ("train", "val", "test")
_SHOWN: Final = 3
_NAMED: Final = 12
# Facts of the reading and not of the episode: one value for all, or another for each.
_READING: Final = {
    *("source", "source_length", "source_sha256", "layout", "fps", "observation_time", "image_orientation"),
    *("channel_order", "info_timing", "instruction_feature"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One episode of a split.

    Attributes:
        id: the source's.
        position: in the list of the episodes that were divided.
        groups: the values that it was grouped by; more than one for an episode with several instructions.
        split: "train", "val" or "test".
    """

    id: str
    position: int
    groups: tuple[str, ...]
    split: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """What `split` found.

    Attributes:
        by: what the groups are of.
        seed: of the hash.
        shares: of "val" and "test".
        members: every episode that could be read, in the source's order; each in one split.
        unreadable: id -> what is wrong with an episode that is in no split.
        joined: names of groups that became one, for each of several.
        warnings: a line each.
    """

    by: str
    seed: int
    shares: Mapping[str, float]
    members: tuple[Member, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    joined: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that there are to be."""
        return tuple(name for name in NAMES if name == "train" or name in self.shares)

    def ids(self, name: str) -> list[str]:
        """The episodes of a split, in the source's order."""
        return [member.id for member in self.members if member.split == name]

    def groups(self, name: str) -> list[str]:
        """The groups of a split, sorted."""
        return sorted({group for member in self.members if member.split == name for group in member.groups})

    @property
    def warnings(self) -> tuple[str, ...]:
        """What one may want to act on, a line each."""
        out = []
        count = len({group for member in self.members for group in member.groups})
        for name in self.names:
            if not self.ids(name):
                out.append(f"{name} is empty: no hash of {count:,} groups; try another seed or share")
        if self.joined:
            names = ", ".join(show(name) for name in self.joined[0][:_SHOWN])
            out.append(f"groups that share an episode or content are one: {names}" + _more(self.joined))
        if self.unreadable:
            name, problem = next(iter(self.unreadable.items()))
            count = len(self.unreadable)
            what = "1 episode is" if count == 1 else f"{count:,} episodes are"
            out.append(f"{what} in no split, for example {show(name)}: {problem}")
        return tuple(out)

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        return {
            "by": self.by,
            "seed": self.seed,
            "shares": dict(self.shares),
            "splits": {
                name: {
                    "episodes": self.ids(name),
                    "positions": [member.position for member in self.members if member.split == name],
                    "groups": self.groups(name),
                }
                for name in self.names
            },
            "joined": [list(names) for names in self.joined],
            "unreadable": dict(self.unreadable),
            "warnings": list(self.warnings),
        }

    def sections(self) -> tuple[Section, ...]:
        """How large each split is, and what is in it."""
        total = len(self.members)
        listed = self.ids if self.by == "episode" else self.groups  # a digest tells nobody which episode it is of
        rows, names = [], []
        for name in self.names:
            count = len(self.ids(name))
            share = f"{100 * count / total:.1f} %" if total else "-"
            rows.append((name, f"{count:,}", f"{len(self.groups(name)):,}", share))
            for at, text in enumerate(map(show, listed(name)[:_SHOWN])):
                names.append(("" if at else name, text if len(text) <= 66 else text[:63] + "..."))
            if len(listed(name)) > _SHOWN:
                names.append(("", f"and {len(listed(name)) - _SHOWN:,} more; --json lists all"))
        head = ("Split", "Episodes", "Groups", "Share", "")
        sizes = Section(head=head, rows=tuple(rows), right=frozenset({1, 2, 3}))
        return Section(notes=(f"by {show(self.by)}, seed {self.seed}",)), sizes, Section(rows=tuple(names))

    def __str__(self) -> str:
        return text_of(self.sections())

    def _repr_html_(self) -> str:
        return html_of(self.sections())


def split(
    source: Source,
    *,
    by: str = "episode",
    val: float = 0.1,
    test: float = 0.0,
    seed: int = 0,
    contents: Mapping[str, str] | None = None,
) -> Split:
    """Put each episode of a source into one split.

    Args:
        source: any source. What it groups by is taken from its ``facts`` where it has such a method, else each
            episode is read, without its images being decoded.
        by: "episode"; "task", the instruction; or a key of ``Episode.meta`` or of its ``episode_metadata``, such
            as "scene" or "seed".
        val: share of the groups.
        test: share of the groups; 0 for no such split.
        seed: other seeds give other splits.
        contents: id -> digest of the content, of episodes of which it is known.

    Raises:
        UsageError: E001 for shares that can't be, E206 when an episode has no such key, E402 when there is none.
    """
    shares = check_shares(val=val, test=test, seed=seed)
    groups: dict[str, tuple[str, ...]] = {}
    unreadable: dict[str, str] = {}
    positions: dict[str, int] = {}
    for position, ref in enumerate(source.episodes()):
        try:
            groups[ref.id] = _groups(source, ref, by)
        except DataError as error:
            if not error.ignore:
                unreadable[ref.id] = str(error)
            continue
        positions[ref.id] = position
    if not groups:
        raise UsageError("E402", "there is no episode to split")
    known = contents or {}
    if by == "episode":
        groups = {name: (f"content {known[name]}" if name in known else name,) for name in groups}
    placed, joined = assign(groups, shares=shares, seed=seed, contents=known)
    return Split(
        by=by,
        seed=seed,
        shares=shares,
        members=tuple(
            Member(id=name, position=positions[name], groups=groups[name], split=placed[name]) for name in groups
        ),
        unreadable=unreadable,
        joined=joined,
    )


def check_shares(*, val: float, test: float, seed: int) -> dict[str, float]:
    """The shares that are above 0, or E001."""
    try:
        shares = {
            "val": checks.number("val", val, low=0, high=1),
            "test": checks.number("test", test, low=0, high=1),
        }
        checks.whole("seed", seed, low=0)
        checks.number("val and test together", sum(shares.values()), low=0, high=1)
    except ValueError as error:
        raise UsageError("E001", str(error)) from None
    return {name: share for name, share in shares.items() if share > 0}


def place(group: str, *, shares: Mapping[str, float], seed: int) -> str:
    """The split of one group; see this module."""
    number = unit_hash(group, salt=f"vla-data split {seed}")
    edge = 0.0
    for name in ("val", "test"):
        edge += shares.get(name, 0.0)
        if number < edge:
            return name
    return "train"


def assign(
    groups: Mapping[str, Sequence[str]],
    *,
    shares: Mapping[str, float],
    seed: int,
    contents: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], tuple[tuple[str, ...], ...]]:
    """Id -> split, and the groups that became one, from id -> groups and id -> digest of the content."""
    union = _Union()
    first: dict[str, str] = {}
    for name, own in groups.items():
        for group in own:
            union.join(own[0], group)
        content = (contents or {}).get(name)
        if content is not None:
            union.join(first.setdefault(content, own[0]), own[0])
    least = union.least()
    placed = {name: place(least[own[0]], shares=shares, seed=seed) for name, own in groups.items()}
    clusters: dict[str, list[str]] = {}
    for group in sorted(least):
        clusters.setdefault(least[group], []).append(group)
    return placed, tuple(tuple(names) for _, names in sorted(clusters.items()) if len(names) > 1)


class _Union:
    """Disjoint sets of names."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def join(self, a: str, b: str) -> None:
        a, b = self._find(a), self._find(b)
        self._parent[max(a, b)] = min(a, b)

    def least(self) -> dict[str, str]:
        """Each name -> the least of its set."""
        return {name: self._find(name) for name in self._parent}

    def _find(self, name: str) -> str:
        self._parent.setdefault(name, name)
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name


def known_contents(path: str | Path) -> dict[str, str]:
    """Id -> content digest of a dataset of ours, in the ids of its source; empty for anything else.

    Episodes of a LeRobot dataset of ours are ``episode_<output_index>`` to its reader.
    """
    from vla_data.formats.sidecar import find_sidecar, open_ledger

    side = find_sidecar(Path(path)) if Path(path).is_dir() else None
    if side is None or side.parent.name != "meta":
        return {}
    return {
        f"episode_{record.output_index:06d}": str(record.content_sha256)
        for record in open_ledger(path).records
        if record.status == "published"
    }


def _groups(source: Source, ref: EpisodeRef, by: str) -> tuple[str, ...]:
    """The groups of one episode, as text."""
    if by == "episode":
        return (ref.id,)
    episode = source.read(ref)
    facts = episode.meta
    if by == "task":
        return _texts(episode.arrays["task"].tolist() if "task" in episode.arrays else [episode.task])
    value = _find(facts, by)
    if value is None:
        raise UsageError("E206", f"{show(ref.id)} has no {show(by)} to group by; it has {_candidates(facts)}")
    return (value if isinstance(value, str) else json.dumps(value, sort_keys=True),)


def _texts(values: Iterable[Json]) -> tuple[str, ...]:
    return tuple(sorted({str(value) for value in values}))


def _find(facts: EpisodeMeta, key: str) -> Json:
    for found in (facts, facts.episode_metadata or {}):
        if found.get(key) is not None:
            return found[key]
    return None


def _candidates(facts: EpisodeMeta) -> str:
    """What episodes may be grouped by: facts of one value that are not of how or from what an episode was read."""
    places = (facts.episode_metadata or {}, facts)
    values = {key: value for place in places for key, value in place.items()}
    keys = [
        *("episode", "task"),
        *sorted(
            key
            for key, value in values.items()
            if isinstance(value, str | int | float) and key not in _READING and not key.endswith("_rule")
        ),
    ]
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(show(key)[:40] for key in keys[:_NAMED]) + more


def _more(several: Sequence[object]) -> str:
    return f" (and {len(several) - 1:,} other such)" if len(several) > 1 else ""
