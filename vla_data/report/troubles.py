"""The findings of a report, worst first, each with what mends it."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vla_data.core import Json
from vla_data.core.findings import Finding
from vla_data.dynamics import check_dynamics
from vla_data.dynamics.report import DynamicsReport
from vla_data.errors import CODES, DataError, UsageError
from vla_data.measuring.gauge import ACTION, STATE
from vla_data.measuring.row import Row
from vla_data.report.looked import Looked
from vla_data.statistics.health import FEW
from vla_data.statistics.health import findings as unhealthy
from vla_data.statistics.vectors import VectorStats

_ORDER: Final = {"error": 0, "warning": 1, "note": 2}
_MASK: Final = "# leave these numbers out of the trainer's normalisation"
_DECLARE: Final = "vla-data convert {0} OUT --declare {1}=VALUE"
_FIXES: Final[Mapping[str, str]] = {
    "constant": _MASK,
    "equal_quantiles": _MASK,
    "far_outside": "vla-data convert {0} OUT --episodes 0-9  # without those that you find to be wrong",
    "not_tested": "vla-data check-dynamics {0} --declare action:KEY=VALUE  # with what is true",
}


def troubles(
    address: str,
    facts: Mapping[str, Json],
    looked: Looked,
    measured: Sequence[Row],
    stats: Mapping[str, VectorStats],
    motion: DynamicsReport | str,
) -> list[Finding]:
    """Everything that a person should know, worst first.

    Args:
        address: as the user gave it; the commands name it.
        facts: of `vla_data.report.inspect.survey`.
        looked: what was read.
        measured: its episodes.
        stats: feature -> statistics of all of its numbers that were read.
        motion: the check of the dynamics, or why there is none.
    """
    where = shlex.quote(address)
    found = [
        *_unreadable(where, facts),
        *_declarations(where, facts),
        *_rate(where, facts),
        *_values(where, looked, stats),
        *_episodes(where, measured),
        *_motion(where, motion),
    ]
    return sorted(found, key=lambda finding: _ORDER[finding.level])


def _unreadable(where: str, facts: Mapping[str, Json]) -> Iterator[Finding]:
    for text, count in facts.get("problems", {}).items():
        code = text.partition(" ")[0]
        yield Finding(
            code=code,
            level="error",
            message=f"{count:,} episodes can't be used: {text} ({CODES.get(code, 'unknown')})",
            fix=f"vla-data inspect {where} --all  # names them; vla-data repair mends datasets of ours",
        )
    if facts["kinds"] > 1:
        yield Finding(
            code="kinds",
            message=f"the episodes have {facts['kinds']} different schemas; the first is shown",
            fix=f"vla-data merge OUT {where} --map mapping.toml  # makes them alike",
        )


def _declarations(where: str, facts: Mapping[str, Json]) -> Iterator[Finding]:
    for text in facts["undeclared"]:
        name, _, key = text.rpartition(": ")
        told = f"{name}:{'KEY' if key == 'everything' else key}"
        yield Finding(
            code="undeclared",
            where=name,
            message=f"{text} is undeclared: a trainer, or a conversion, would have to guess",
            fix=_DECLARE.format(where, shlex.quote(told) if key != "everything" else told),
        )


def _rate(where: str, facts: Mapping[str, Json]) -> Iterator[Finding]:
    audit = facts.get("fps_audit")
    if audit and audit["recorded"] is not None and not audit["agree"]:
        declared = "nothing" if audit["declared"] is None else f"{audit['declared']:g}"
        yield Finding(
            code="fps",
            level="error",
            message=f"{declared} steps per second declared, but the recorded times say {audit['recorded']:g}",
            fix=f"vla-data check-dynamics {where} --declared-fps {audit['recorded']:g}  # by the other rate",
        )


def _values(where: str, looked: Looked, stats: Mapping[str, VectorStats]) -> Iterator[Finding]:
    for name, count in looked.not_finite().items():
        yield Finding(
            code="not_finite",
            where=name,
            level="error",
            message=f"{name}: {count:,} steps have a number that is not finite; they are in no statistic here",
            fix=f"vla-data convert {where} OUT  # quarantines such episodes",
        )
    few = [name for name, one in stats.items() if one.count < FEW]
    if few:
        yield Finding(
            code="few",
            level="note",
            message=f"fewer than {FEW} steps were read: q01 and q99 are little more than the extremes",
            fix="# record more before statistics are taken for a trainer",
        )
    for name, one in stats.items():
        for finding in unhealthy(name, one):
            if finding.code == "few":
                continue  # of every feature alike
            yield replace(
                finding,
                level="note" if finding.code == "constant" else "warning",
                fix=_masked(where, finding.elements, one.width)
                if name == ACTION and _FIXES.get(finding.code) == _MASK
                else _FIXES.get(finding.code, "").format(where),
            )
    for text in looked.undecoded:
        yield Finding(
            code="image",
            level="error",
            message=text,
            fix=f"vla-data repair {where}  # where it is a dataset of ours",
        )


def _masked(where: str, elements: Sequence[int], width: int) -> str:
    """The command that normalises actions without some elements; ``6,-1``: six that are, and one that is not."""
    runs = itertools.groupby(range(width), key=lambda i: i in elements)
    mask = ",".join(f"{'-' if out else ''}{len(list(run))}" for out, run in runs)
    return f"vla-data stats {where} --format openvla --action-mask={mask}  # normalises the others alone"


def _episodes(where: str, measured: Sequence[Row]) -> Iterator[Finding]:
    outside = [one for one in measured if one.outside]
    if outside:
        steps = sum(one.outside or 0 for one in outside)
        yield Finding(
            code="out_of_range",
            where=ACTION,
            message=f"{steps:,} steps of {len(outside):,} episodes have actions out of their declared range",
            fix=f"{_DECLARE.format(where, 'action:KEY')}  # where the data are right, with what is true",
        )
    extra = sum(bool(one.copies) for one in measured)
    if extra:
        yield Finding(
            code="duplicates",
            message=f"{extra:,} episodes have the content of another one",
            fix=f"vla-data convert {where} OUT --dedup",
        )
    if measured and all(one.success is None for one in measured):
        yield Finding(
            code="no_success",
            level="note",
            message="no episode has a success flag: nobody can tell from the data which ones solved the task",
            fix="# no command knows; record next.success, see docs/recording.md",
        )


def _motion(where: str, motion: DynamicsReport | str) -> Iterator[Finding]:
    if isinstance(motion, str):
        yield Finding(
            code="not_tested",
            level="note",
            message=f"do states move as actions say? Not tested: {motion}",
            fix=_FIXES["not_tested"].format(where),
        )
        return
    for finding in motion.findings:
        wrong = finding.level != "note"
        untested = _FIXES["not_tested"].format(where) if finding.code == "not_tested" else ""
        yield replace(
            finding,
            where=ACTION,
            level="error" if wrong else "note",
            message=f"check of the dynamics: {finding.message}",
            fix=_DECLARE.format(where, "action:KEY") if wrong else untested,
        )


def motion_of(facts: Mapping[str, Json], looked: Looked) -> DynamicsReport | str:
    """The check of the dynamics of what was read, or why it can't be made."""
    actions, states = looked.gauge.pairs()
    meant, seen = looked.convention(ACTION), looked.convention(STATE)
    rate = facts.get("fps")
    if not actions or meant is None or seen is None or not rate:
        return "it takes action and observation.state with their conventions, and a rate"
    try:
        return check_dynamics(actions, states, meant, rate, state_convention=seen)
    except (UsageError, DataError) as error:
        return error.message
