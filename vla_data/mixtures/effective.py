"""What a mixture really samples, as a table for people and as JSON, with what is odd about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_data.actions import polarity
from vla_data.actions.agreement import differences
from vla_data.actions.convention import quantity
from vla_data.actions.plausible import unlike_numbers
from vla_data.core import Json
from vla_data.core.findings import Finding, Section, html_of, text_of
from vla_data.mixtures import rates
from vla_data.mixtures.config import Config
from vla_data.mixtures.member import LeftOut, Member
from vla_data.mixtures.sampling import Sampling
from vla_data.mixtures.track import action_layout
from vla_data.safety.text import show

_MANY: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What becomes of one dataset.

    Attributes:
        name: of the dataset.
        episodes: that are used.
        frames: of them.
        fps: steps per second of the dataset.
        share: of the stream.
        visits: of each of its frames in an epoch, on average.
        left_out: episodes that are not used.
    """

    name: str
    episodes: int
    frames: int
    fps: float
    share: float
    visits: float
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What a mixture samples.

    Attributes:
        datasets: in order.
        epoch: frames of an epoch.
        order: of the stream.
        seed: of the stream.
        findings: what is odd; codes are ``fps``, ``rows_resampled``, ``mixed_blindly``, ``no_effect``,
            ``no_state``, ``never_drawn``, ``left_out``, ``repeated``, ``unlike``, ``subtracted`` and
            ``contradicts_what_is_declared``.
    """

    datasets: tuple[Drawn, ...]
    epoch: int
    order: str
    seed: int
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Json]:
        """A plain dictionary."""
        return {
            "datasets": [
                {
                    "name": drawn.name,
                    "episodes": drawn.episodes,
                    "frames": drawn.frames,
                    "fps": drawn.fps,
                    "share": drawn.share,
                    "visits_per_epoch": drawn.visits,
                    "left_out": [{"id": o.id, "code": o.code, "message": o.message} for o in drawn.left_out],
                }
                for drawn in self.datasets
            ],
            "epoch_frames": self.epoch,
            "order": self.order,
            "seed": self.seed,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def sections(self) -> tuple[Section, ...]:
        """A row a dataset, and what an epoch is."""
        heads = ("dataset", "episodes", "frames", "fps", "share", "visits")
        rows = [
            (
                show(drawn.name),
                f"{drawn.episodes:,}",
                f"{drawn.frames:,}",
                f"{drawn.fps:g}",
                f"{drawn.share:.2%}",
                f"{drawn.visits:.3g}",
            )
            for drawn in self.datasets
        ]
        said = f"An epoch has {self.epoch:,} frames, order {self.order}, seed {self.seed}."
        table = Section(head=heads, rows=tuple(rows), right=frozenset(range(1, len(heads))))
        return table, Section(notes=(said,))

    def __str__(self) -> str:
        return text_of(self.sections())

    def _repr_html_(self) -> str:
        return html_of((*self.sections(), Section(notes=tuple(finding.message for finding in self.findings))))


def describe(
    config: Config, members: Sequence[Member], sampling: Sampling, doubts: Sequence[Finding] = ()
) -> Effective:
    """What a mixture samples; ``doubts`` are findings about what batches do with it."""
    datasets = tuple(
        Drawn(
            name=member.name,
            episodes=len(member.refs),
            frames=member.frames,
            fps=member.label,
            share=share,
            visits=share * len(sampling) / member.frames if member.frames else 0.0,
            left_out=tuple(member.left_out),
        )
        for member, share in zip(members, sampling.shares, strict=True)
    )
    findings = [finding for member in members for finding in _of_member(config, member)]
    findings += [*_unlike(members), *_doubts(members), *doubts]
    for drawn in datasets:
        if drawn.share == 0:
            why = "no frames" if drawn.frames == 0 else "weight 0"
            findings.append(Finding(code="never_drawn", message=f"{drawn.name} is never drawn: {why}"))
    drawn_visits = [drawn.visits for drawn in datasets if drawn.share > 0]
    if min(drawn_visits) * _MANY < max(drawn_visits):
        times = max(drawn_visits) / min(drawn_visits)
        message = f"a frame of one dataset is seen {times:.3g} times as often as one of another"
        findings.append(Finding(code="repeated", message=message))
    if config.notes:
        message = f"read, and without effect here: {', '.join(config.notes)}"
        findings.append(Finding(code="no_effect", message=message))
    return Effective(
        datasets=datasets,
        epoch=len(sampling),
        order=sampling.order,
        seed=sampling.seed,
        findings=tuple(findings),
    )


def _unlike(members: Sequence[Member]) -> Iterator[Finding]:
    """In what the declared meanings of datasets differ that are drawn into one batch."""
    used = [member for member in members if member.frames]
    for what, key, meanings in (
        ("actions", "convention of [contract] makes them alike", {m.name: m.action_meaning for m in used}),
        ("states", "convert a dataset first (--actions, --declare)", {m.name: m.state_meaning for m in used}),
    ):
        for text in differences(meanings):
            yield Finding(code="unlike", message=f"{what} of the datasets are mixed, but {text}; {key}")


def _doubts(members: Sequence[Member]) -> Iterator[Finding]:
    """What numbers are not, though it is declared, and where numbers of unlike sizes are mixed undeclared."""
    used = [member for member in members if member.frames]
    for member in used:
        for said, count in member.doubts.items():
            message = f"{member.name}: {said} ({count:,} episodes); declare what is true (convention)"
            yield Finding(code="contradicts_what_is_declared", where=member.name, message=message)
    for what, meanings in (
        ("action", [m.action_meaning for m in used]),
        ("state", [m.state_meaning for m in used]),
    ):
        least = min(map(len, meanings), default=0)
        known = [all(meaning[at] is not None for meaning in meanings) for at in range(least)]
        for said in unlike_numbers({member.name: member.ranges[what] for member in used}, known):
            message = f"{what}s of the datasets are mixed, undeclared, and {what} {said}; declare what they are"
            yield Finding(code="unlike", message=f"{message} (convention, state_convention)")
    for said in polarity.doubts(
        {member.name: member.polarity for member in used},
        {member.name: member.action_meaning for member in used},
        {member.name: member.state_meaning for member in used},
    ):
        key = "declare gripper_open and gripper_closed of each dataset (convention)"
        yield Finding(code="unlike", message=f"actions of the datasets are mixed, undeclared: {said}; {key}")


def _of_member(config: Config, member: Member) -> list[Finding]:
    found = []
    contract = config.contract
    for what, rate in member.found_rates.items():
        if rates.contradicts(member.label, rate):
            message = (
                f"{member.name} is labelled {member.label:g} Hz; {what} say {rate:.4g} Hz (fps = corrects it)"
            )
            found.append(Finding(code="fps", message=message))
    if member.left_out:
        first = member.left_out[0]
        why = f"{show(first.id)}: {first.code} {first.message}"
        message = f"{member.name}: {len(member.left_out):,} episodes left out; {why}"
        found.append(Finding(code="left_out", message=message))
        found += [
            Finding(code="fps", message=f"{member.name}, {show(o.id)}: {o.message}")
            for o in member.left_out
            if o.code == "E221"
        ][:1]
    if contract.state_dim and member.lengths and not member.widths[0] and member.entry.state is None:
        message = f"{member.name} has no state: it is 0, and observation.state_mask says so (state = [])"
        found.append(Finding(code="no_state", message=message))
    if contract.resample == "rows" and contract.action_freq not in (None, member.label) and member.label:
        ratio = member.label / (contract.action_freq or member.label)
        kind = member.convention.kind if member.convention is not None else "undeclared"
        if kind != "absolute":
            message = (
                f"{member.name}: rows of {member.label:g} Hz are picked at {contract.action_freq:g} Hz and not "
                f"rescaled; unless actions are absolute (they are {kind}), what is commanded in a second becomes "
                f"{1 / ratio:.3g} times as much (resample = 'commands' keeps it)"
            )
            found.append(Finding(code="rows_resampled", message=message))
        if contract.vector_resample_strategy == "linear" and not np.isclose(ratio, round(ratio)):
            parts = action_layout(member.convention)
            odd = [part for part in parts if quantity(part) in ("gripper", "rotation")]
            what = ", ".join(odd) if odd else "all numbers of actions and states, whatever they mean"
            message = f"{member.name}: linear mixes {what} in a straight line"
            found.append(Finding(code="mixed_blindly", message=message))
    return found
