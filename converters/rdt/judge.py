"""Somebody's data for RDT, read and judged: see `converters.rdt.bugs` for what is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from converters.rdt import bugs as rdt_bugs
from converters.rdt import file as rdt_file
from converters.rdt.beside import compare
from converters.rdt.sink import FACTS, action_convention
from converters.rdt.slots import GRIPPER
from converters.rdt.vectors import opening_of, vectors
from vla_data.core import Json, Source
from vla_data.core.findings import Section, html_of, text_of
from vla_data.errors import DataError, UsageError
from vla_data.files.write import files_below
from vla_data.names import natural
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

_ANY: Final = 1.0
"""Metres that no fingers are apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was looked at and what was found.

    Attributes:
        episodes: read; 0 for a file of statistics.
        steps: in them.
        action_std: of slots 30 to 32, in metres where the actions are moves of poses.
        bugs: with the name of an entry of statistics, or nothing.
    """

    episodes: int
    steps: int
    action_std: tuple[float, ...]
    bugs: tuple[tuple[str, rdt_bugs.Bug], ...]

    def to_json(self) -> dict[str, Json]:
        """A plain dictionary."""
        bugs = [{"entry": name, **bug.to_json()} if name else bug.to_json() for name, bug in self.bugs]
        return {"episodes": self.episodes, "steps": self.steps, "action_std": list(self.action_std), "bugs": bugs}

    def sections(self) -> tuple[Section, ...]:
        """What was read, and how many mistakes there are."""
        std = ", ".join(f"{value:.5f}" for value in self.action_std)
        rows = [("Episodes", f"{self.episodes:,}", f"{self.steps:,} steps")] if self.episodes else []
        rows.append(("Mistakes", f"{len(self.bugs):,}", ""))
        notes = (f"action_std of slots 30 to 32: {std}",) if std else ()
        return (Section(rows=tuple(rows), right=frozenset({1}), notes=notes),)

    def __str__(self) -> str:
        return text_of(self.sections())

    def _repr_html_(self) -> str:
        return html_of(self.sections())


def judge(path: Path, *, source: Source | None = None) -> Judged:
    """Judge a folder of HDF5 files in RDT's layout, or a ``dataset_stat.json``.

    Args:
        path: the folder, or the file.
        source: what a folder was made from, one episode a file, in the natural order of both. Files of ours name
            their episode and need no order.

    Raises:
        UsageError: E003 when there is nothing, E005 for another number of episodes than ``source`` has.
        DataError: a file can't be read.
    """
    if path.is_file():
        return _judge_stat(path)
    files = sorted(files_below(path, ".hdf5"), key=lambda file: natural(file.relative_to(path).as_posix()))
    if not files:
        raise UsageError("E003", f"{show(path)} has no *.hdf5 file")
    facts = _facts(path)
    convention = None if facts.get("layout") in (None, "agilex") else action_convention(facts)[0]
    found = [rdt_file.read(file, root=path, images=False) for file in files]
    pairs = [(one.state, one.action) for one in found]
    masks = (found[0].state_mask, found[0].action_mask) if found[0].declared else None
    bugs = {bug.code: bug for bug in rdt_bugs.find_all(pairs, convention=convention, masks=masks)}
    if source is not None:
        bugs |= {bug.code: bug for bug in _compared(found, source)}
    steps = np.concatenate([action for _, action in pairs])[:, 30:33]
    std = tuple(float(value) for value in steps.std(axis=0)) if steps.any() else ()
    return Judged(
        episodes=len(files), steps=len(steps), action_std=std, bugs=tuple(("", bug) for bug in bugs.values())
    )


def _compared(found: list[rdt_file.RdtFile], source: Source) -> list[rdt_bugs.Bug]:
    refs = list(source.episodes())
    by_id = {ref.id: ref for ref in refs}
    named = [by_id.get(str(one.facts.get("vla_data_id"))) for one in found]
    if None in named:
        if len(refs) != len(found):
            raise UsageError(
                "E005", f"there are {len(found):,} files, but {len(refs):,} episodes to compare them with"
            )
        named = list(refs)
    bugs: dict[str, rdt_bugs.Bug] = {}
    for one, ref in zip(found, named, strict=True):
        if ref is None:
            raise AssertionError("every file has its episode")
        episode = source.read(ref)
        schema = source.schema(episode)
        told = opening_of(schema) is not None
        want = vectors(episode, schema, opening=None if told else _ANY)
        if not told and one.state.shape == want.state.shape:  # then the source does not tell how far open it is
            want.state[:, GRIPPER] = one.state[:, GRIPPER]
        for bug in compare([(one.state, one.action)], [want], [episode]):
            bugs.setdefault(bug.code, bug)
    return list(bugs.values())


def _judge_stat(path: Path) -> Judged:
    content = strict_json.loads(read_file(path, root=path.resolve().parent)[0], name=path.name)
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise DataError("E141", f"{show(path.name)} is not a table of datasets")
    bugs = [(show(name), bug) for name, entry in content.items() for bug in rdt_bugs.stat_bugs(entry)]
    entries: list[dict[str, Any]] = list(content.values())
    first = entries[0].get("action_std") if len(entries) == 1 else None
    std = tuple(float(value) for value in first[30:33]) if isinstance(first, list) else ()
    return Judged(episodes=0, steps=0, action_std=std, bugs=tuple(bugs))


def _facts(root: Path) -> Mapping[str, Json]:
    if not (root / FACTS).exists():
        return {}
    value = strict_json.loads(read_file(root / FACTS, root=root)[0], name=FACTS)
    return value if isinstance(value, dict) else {}
