"""The findings of a report, worst first, each with what mends it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vla_data.core import Json
from vla_data.core.findings import Finding
from vla_data.dynamics import check_dynamics
from vla_data.errors import CODES, DataError, UsageError
from vla_data.report.looked import ACTION, STATE, Looked
from vla_data.report.measures import Measured
from vla_data.statistics.health import findings as unhealthy
from vla_data.statistics.vectors import VectorStats

_ORDER: Final = {"error": 0, "warning": 1, "note": 2}
_MASK: Final = "leave these numbers out of normalisation: vla-data stats {0} --format openvla --action-mask ..."
_FIXES: Final[Mapping[str, str]] = {
    "constant": _MASK,
    "equal_quantiles": _MASK,
    "far_outside": "see which episodes: Deserve a look; leave them out: vla-data convert {0} OUT --episodes ...",
    "few": "record more; or take statistics of a larger set: vla-data stats {0} OTHER --format ...",
    "not_tested": "declare what it needs: vla-data check-dynamics {0} --declare action:KEY=VALUE",
}
_DECLARE: Final = "vla-data convert {0} OUT --declare {1}=VALUE"
_DYNAMICS: Final = "vla-data check-dynamics {0} tells more; then declare what is true: " + _DECLARE.replace(
    "{1}", "action:KEY"
)


def troubles(
    address: str,
    facts: Mapping[str, Json],
    looked: Looked,
    measured: Sequence[Measured],
    stats: Mapping[str, VectorStats],
) -> list[Finding]:
    """Everything that a person should know, worst first.

    Args:
        address: as the user gave it; the commands name it.
        facts: of `vla_data.report.inspect.survey`.
        looked: what was read.
        measured: its episodes.
        stats: feature -> statistics of all of its numbers that were read.
    """
    where = shlex.quote(address)
    found = [
        *_unreadable(where, facts),
        *_declarations(where, facts),
        *_rate(where, facts),
        *_values(where, looked, stats),
        *_episodes(where, measured),
        *_motion(where, facts, looked),
    ]
    return sorted(found, key=lambda finding: _ORDER[finding.level])


def _unreadable(where: str, facts: Mapping[str, Json]) -> Iterator[Finding]:
    for text, count in facts.get("problems", {}).items():
        code = text.partition(" ")[0]
        yield Finding(
            code=code,
            level="error",
            message=f"{count:,} episodes can't be used: {text} ({CODES.get(code, 'unknown')})",
            fix=f"vla-data inspect {where} --all names them; of a dataset of ours: vla-data repair {where}",
        )
    if facts["kinds"] > 1:
        yield Finding(
            code="kinds",
            message=f"the episodes have {facts['kinds']} different schemas; the first is shown",
            fix=f"make them alike: vla-data merge OUT {where} --map mapping.toml, or choose with --episodes",
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
            fix=f"vla-data check-dynamics {where} --declared-fps {audit['recorded']:g} judges by the other rate",
        )


def _values(where: str, looked: Looked, stats: Mapping[str, VectorStats]) -> Iterator[Finding]:
    for name, count in looked.not_finite().items():
        yield Finding(
            code="not_finite",
            where=name,
            level="error",
            message=f"{name}: {count:,} steps have a number that is not finite; they are in no statistic here",
            fix=f"vla-data convert {where} OUT quarantines such episodes",
        )
    for name, one in stats.items():
        for finding in unhealthy(name, one):
            yield replace(
                finding,
                level="note" if finding.code in ("few", "constant") else "warning",
                fix=_FIXES.get(finding.code, "").format(where),
            )
    for text in looked.undecoded:
        yield Finding(
            code="image", level="error", message=text, fix=f"of a dataset of ours: vla-data repair {where}"
        )


def _episodes(where: str, measured: Sequence[Measured]) -> Iterator[Finding]:
    outside = [one for one in measured if one.outside]
    if outside:
        steps = sum(one.outside or 0 for one in outside)
        yield Finding(
            code="out_of_range",
            where=ACTION,
            message=f"{steps:,} steps of {len(outside):,} episodes have actions out of their declared range",
            fix=f"if the data are right, declare what is true: {_DECLARE.format(where, 'action:KEY')}",
        )
    extra = len(measured) - len({one.digest for one in measured})
    if extra:
        yield Finding(
            code="duplicates",
            message=f"{extra:,} episodes have the content of another one",
            fix=f"vla-data convert {where} OUT --dedup",
        )
    if measured and all(one.solved is None for one in measured):
        yield Finding(
            code="no_success",
            level="note",
            message="no episode has a success flag: nobody can tell from the data which ones solved the task",
            fix="no command knows; record next.success (docs/recording.md)",
        )


def _motion(where: str, facts: Mapping[str, Json], looked: Looked) -> Iterator[Finding]:
    actions, states = looked.pairs()
    meant, seen = looked.convention(ACTION), looked.convention(STATE)
    rate = facts.get("fps")
    if not actions or meant is None or seen is None or not rate:
        yield Finding(
            code="not_tested",
            level="note",
            message="do states move as actions say? Not tested: it takes action, observation.state and a rate",
        )
        return
    try:
        report = check_dynamics(actions, states, meant, rate, state_convention=seen)
    except (UsageError, DataError) as error:
        yield Finding(
            code="not_tested",
            level="note",
            message=f"do states move as actions say? Not tested: {error.message}",
            fix=_FIXES["not_tested"].format(where),
        )
        return
    for finding in report.findings:
        tested = finding.code != "not_tested"
        yield replace(
            finding,
            where=ACTION,
            level="error" if tested else "note",
            message=f"check of the dynamics: {finding.message}",
            fix=(_DYNAMICS if tested else _FIXES["not_tested"]).format(where),
        )
