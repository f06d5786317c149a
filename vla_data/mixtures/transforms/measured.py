"""Statistics of what a mixture feeds to a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vla_data import options as checks
from vla_data.core import Array
from vla_data.errors import UsageError
from vla_data.mixtures import track
from vla_data.mixtures.member import Member
from vla_data.mixtures.numbers import Window
from vla_data.mixtures.transforms.stats_file import ACTION, STATE, Statistics
from vla_data.safety.text import show
from vla_data.statistics.chunks import parse_mask
from vla_data.statistics.rules import RULES

if TYPE_CHECKING:
    from vla_data.mixtures.mixture import Mixture

_KEYED: Final = ("octo", "openvla")
"""Trainers that have statistics of each dataset."""


def measure(
    mixture: Mixture, rule: str, features: Sequence[str], action_mask: str | Sequence[bool]
) -> dict[str, dict[str, Statistics]]:
    """As `vla_data.mixtures.transforms.Normalize.of` says.

    Raises:
        UsageError: E001 for a rule that there is not, or a mask that it does not heed; E005 for datasets of
            several widths that are to have one statistic.
        DataError: an episode can't be read any more.
    """
    from vla_data.statistics.collect import Summary, summarize  # loads pyarrow
    from vla_data.statistics.trainers import pool
    from vla_data.statistics.vectors import describe

    try:
        checks.one_of("rule", rule, tuple(RULES))
    except ValueError as error:
        raise UsageError("E001", f"Normalize: {error}") from None
    found, trainer = RULES[rule], rule.partition(".")[0]
    if found is None:
        return {"": {}}
    mask = parse_mask(action_mask) if isinstance(action_mask, str) else tuple(action_mask)
    if mask and not found.masked:
        raise UsageError("E001", f"{rule} has no mask; openvla and octo have one")
    members = [member for member in mixture.members if member.frames]
    chunks = trainer == "openpi"
    made = {member.name: summarize(_rows(mixture, member, features, chunks=chunks)) for member in members}
    summaries: dict[str, Summary] = made
    if trainer not in _KEYED:
        drawn = {
            member.name: share
            for member, share in zip(mixture.members, mixture.sampling.shares, strict=True)
            if share > 0
        }
        parts, shares = [made[name] for name in drawn], list(drawn.values())
        frames = np.asarray([member.frames for member in members if member.name in drawn])
        # By frames it is one dataset, whose quantiles need no weights.
        weights = None if np.allclose(shares, frames / frames.sum()) else shares
        summaries = {"": pool(parts, weights) if len(parts) > 1 else parts[0]}
    out: dict[str, dict[str, Statistics]] = {}
    for name, summary in summaries.items():
        out[name] = {feature: _entry(describe(stats)) for feature, stats in summary.features.items()}
        if mask and ACTION in out[name]:
            width = len(out[name][ACTION]["mean"])
            if len(mask) != width:
                raise UsageError("E001", f"action_mask has {len(mask)} elements, actions of {show(name)} {width}")
            out[name][ACTION] = {**out[name][ACTION], "mask": list(mask)}
    return out


def _entry(facts: dict[str, Any]) -> Statistics:
    """Octo's names of quantiles too."""
    return {**facts, "p01": facts["q01"], "p99": facts["q99"]}


def _rows(
    mixture: Mixture, member: Member, features: Sequence[str], *, chunks: bool
) -> Iterator[tuple[str, dict[str, Array]]]:
    """For each episode what is counted of it."""
    contract = mixture.config.contract
    for number, ref in enumerate(member.refs):
        made = member.track(number)
        window = Window.of(contract, made, np.arange(made.length, dtype=np.int64), member.fps)
        out: dict[str, Array] = {}
        if ACTION in features:
            actions = window.actions(contract, made, member.turns)
            if contract.delta == "none" and not chunks:
                out[ACTION] = actions[:, 0]
            else:
                out[ACTION] = actions.reshape(-1, actions.shape[-1]) if chunks else actions[~window.ahead.is_pad]
        if STATE in features and made.arrays[track.STATE].shape[1]:
            out[STATE] = made.arrays[track.STATE]
        yield ref.id, out
