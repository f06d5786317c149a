"""The other sections of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from vla_data.actions.agreement import spans
from vla_data.core import Json
from vla_data.core.findings import Finding, Section
from vla_data.dynamics.report import DynamicsReport
from vla_data.measuring.looks import DEFINITIONS, looks
from vla_data.measuring.row import COLUMNS, Row
from vla_data.report.charts import Track, histogram, timeline
from vla_data.report.inspect import told
from vla_data.report.looked import Looked
from vla_data.report.page import facts as facts_of
from vla_data.report.page import sentence, table
from vla_data.report.words import cut, escaped

_BARS: Final = 24
_LISTED: Final = 40
_TRACKS: Final = 30
_TASKS: Final = 20


def findings(found: Sequence[Finding]) -> str:
    """Findings in the order they are given, each with what mends it."""
    if not found:
        return sentence("Nothing was found that is wrong. That is no proof: see what this report cannot tell.")
    out = []
    for one in found:
        fix = f"<p><code>{escaped(one.fix, shown=True)}</code></p>" if one.fix else ""
        out.append(
            f"<div class='find {one.level}'><p><b>{escaped(one.level)}</b> · <code>{escaped(one.code)}</code> "
            f"{escaped(one.message, shown=True)}</p>{fix}</div>"
        )
    return "".join(out)


def strips(looked: Looked, dropped: Looked | None) -> str:
    """Pictures of episodes that are there and, where they are known, of some that were dropped."""
    out = [strip.to_html() for strip in looked.strips]
    if out:
        out.insert(0, "<h3>In the dataset</h3>")
    if dropped is not None and dropped.strips:
        out += ["<h3>Dropped</h3>", *(strip.to_html() for strip in dropped.strips)]
    if out:
        out.append(sentence("A few episodes; at most eight pictures, from first to last, of at most two cameras."))
    return "".join(out)


def lengths(facts: Mapping[str, Json], measured: Sequence[Row]) -> str:
    """Steps an episode, seconds, success and tasks."""
    if not measured:
        return ""
    steps = np.array([one.steps or 0 for one in measured])
    rate = facts.get("fps")
    edges = np.linspace(0, max(int(steps.max()), 1), _BARS + 1)
    heights = (np.histogram(steps, edges)[0] / len(steps)).tolist()
    known = [one.success for one in measured if one.success is not None]
    pairs = [
        ("Steps", f"{steps.min():,} to {steps.max():,}, median {np.median(steps):g}, {steps.sum():,} in all"),
        ("Rate", f"{rate:g} steps a second; {steps.sum() / rate:,.1f} s in all" if rate else "unknown"),
        (
            "Success",
            f"{sum(known):,} of {len(known):,} have a flag set" if known else "no flag is recorded",
        ),
        ("Robot", str(facts.get("robot") or "not declared")),
    ]
    listed = Section(
        title="Instructions",
        head=("text", "episodes", "success", "median steps"),
        rows=tuple(_tasks(measured)),
        right=frozenset({1, 2, 3}),
    )
    picture = histogram(heights, label=f"lengths of {len(steps):,} episodes, 0 to {steps.max():,} steps")
    return (
        facts_of(pairs)
        + f"<figure class='card one'><figcaption>{steps.max():,} steps at most</figcaption>{picture}</figure>"
        + table(listed, "instructions")
    )


def _tasks(measured: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """The instructions of most episodes: how many, how many of them with a success flag, how long."""
    groups: dict[str, list[Row]] = {}
    for one in measured:
        groups.setdefault(one.task, []).append(one)
    ordered = sorted(groups.items(), key=lambda entry: -len(entry[1]))
    for text, alike in ordered[:_TASKS]:
        known = [one.success for one in alike if one.success is not None]
        success = f"{sum(known):,} of {len(known):,}" if known else "unknown"
        yield cut(text, 200), f"{len(alike):,}", success, f"{np.median([one.steps or 0 for one in alike]):g}"
    if len(ordered) > _TASKS:
        yield f"{len(ordered) - _TASKS:,} other texts", "", "", ""


def gripper(measured: Sequence[Row]) -> str:
    """When grippers switch."""
    known = [one for one in measured if one.switches is not None]
    if not known:
        return ""
    counts = Counter(len(one.switched or ()) for one in known)
    usual = ", ".join(f"{n} in {times:,}" for n, times in sorted(counts.items())[:12])
    tracks = [Track(name=one.episode, length=one.steps or 0, steps=one.switched or ()) for one in known[:_TRACKS]]
    some = sentence(f"The first {_TRACKS} of {len(known):,} episodes.") if len(known) > _TRACKS else ""
    return (
        f"<p>Switches an episode: {escaped(usual)}.</p>"
        + '<div class=table tabindex=0 role=region aria-label="timeline of gripper switches">'
        + f"{timeline(tracks, label=f'gripper switches of {len(tracks)} episodes')}</div>"
        + some
        + sentence(COLUMNS["switches"].meaning)
    )


def conventions(facts: Mapping[str, Json], motion: DynamicsReport | str) -> str:
    """What is declared of each feature, and what is not."""
    rows = []
    for name, feature in facts["features"].items():
        shape = "x".join(map(str, feature["shape"]))
        declared = "; ".join(
            f"{key} {_word(value)}"
            for key, value in feature["convention"].items()
            if value not in ("undeclared", {})
        )
        rows.append((cut(name, 120), f"{feature['dtype']} {shape}", cut(declared, 600)))
    listed = Section(head=("feature", "numbers", "declared"), rows=tuple(rows))
    lacking = "; ".join(facts["undeclared"])
    last = f"Undeclared: {lacking}." if lacking else "Of actions and states nothing is marked as undeclared."
    checked = (
        sentence(f"Do states move as actions say? Not tested: {motion}.")
        if isinstance(motion, str)
        else table(motion.sections()[0], "do states move as actions say")
    )
    return (
        table(listed, "features and their conventions")
        + sentence(last)
        + f"<h3>Check of the dynamics</h3>{checked}"
    )


def _word(value: Json) -> str:
    """A fact of a convention; positions of a layout as ``3-5``."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(
        f"{key} {spans(item) if isinstance(item, list) and all(type(i) is int for i in item) else item}"
        for key, item in value.items()
    )


def look(measured: Sequence[Row], facts: Mapping[str, Json]) -> str:
    """Episodes that a person should see, and why."""
    if not measured and not facts["problem_files"]:
        return ""
    found = looks(measured)
    rows = [(cut(one["episode"], 120), f"unreadable: {one['code']}") for one in facts["problem_files"]]
    rows += [(cut(id, 120), cut("; ".join(why), 300)) for id, why in found]
    listed = Section(head=("episode", "why"), rows=tuple(rows[:_LISTED]))
    body = table(listed, "episodes and why") if rows else sentence("None by the definitions below.")
    more = sentence(f"And {len(rows) - _LISTED:,} more.") if len(rows) > _LISTED else ""
    return body + more + "<h3>Definitions</h3>" + "".join(sentence(text) for text in DEFINITIONS.values())


def provenance(facts: Mapping[str, Json]) -> str:
    """How the dataset was made, where its manifest says so."""
    made = facts.get("provenance")
    if not made:
        return sentence("There is no manifest of vla-data, so how it was made is not known here.")
    pairs = [
        ("Source", told(made["source"])),
        *((f"Step {number}", told(step)) for number, step in enumerate(made["recipe"], 1)),
        ("Written by", told(made["sink"])),
        ("Content", f"SHA-256 {facts['content_sha256']}"),
    ]
    return facts_of(pairs) + sentence("vla-data verify DATASET checks every byte against what was published.")


def limits(facts: Mapping[str, Json], looked: Looked, *, ledger: bool, against: bool) -> str:
    """What nobody should read out of the page."""
    told = [
        "Whether a policy that is trained on these data will work. No figure here predicts it.",
        "Whether the pictures show what the instruction says, whether a camera is sharp, whether a person is to "
        "be seen: a few pictures are above, the others were not looked at.",
        "Whether declared conventions are true. Where the check of the dynamics was possible, it is among the "
        "findings when it contradicts them; that it finds nothing is no proof.",
        "What is in pictures inside of videos: they were not looked at for frozen, black and damaged cameras and "
        "for duplicates; vla-data quality --decode-video does.",
    ]
    if facts["episodes_read"] < facts["episodes"]:
        told.insert(
            0,
            f"Anything of {facts['episodes'] - facts['episodes_read']:,} of the {facts['episodes']:,} episodes: "
            f"{facts['episodes_read']:,}, spread evenly, were read. Duplicates are found among these alone. --all "
            "reads every one.",
        )
    if not ledger:
        told.append("What was left out before the data came here: there is no ledger.")
    if not against:
        told.append("How the data differ from those they were made from: --against SOURCE shows both.")
    convention = looked.convention("action")
    if convention is None or not convention.layout:
        told.append(
            "Idle steps, gripper switches, ranges and the way of the hand: of no feature called action a layout "
            "is declared."
        )
    return f"<ul>{''.join(f'<li>{escaped(text, shown=True)}</li>' for text in told)}</ul>"
