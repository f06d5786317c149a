"""How each trainer makes numbers small, and large again.

Formulas are the trainers' own, quirks included, in float64: what comes out is what the network is fed. Sources:
OpenVLA `prismatic/vla/datasets/rlds/utils/data_utils.py` and `prismatic/extern/hf/modeling_prismatic.py`, Octo
`octo/data/utils/data_utils.py` and `octo/model/octo_model.py`, openpi `openpi/transforms.py`, LeRobot
`processor/normalize_processor.py`, GR00T `gr00t/data/utils.py` (N1.6) and
`gr00t/data/transform/state_action.py` (N1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from vla_data.core import Array
from vla_data.errors import UsageError
from vla_data.safety.text import show
from vla_data.statistics.vectors import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A linear map for each element: ``(x - low) / (high - low) * 2 - 1``, or ``(x - mean) / std``.

    Attributes:
        low: name of the statistic that becomes -1, or ``mean`` for what becomes 0.
        high: of the one that becomes 1, or ``std``.
        eps: added to the divisor.
        eps_back: whether the way back has it, too.
        eps_if_zero: ``eps`` is used only instead of a divisor of 0.
        clip: whether results are kept within -1..1.
        clip_back: whether the way back does so with what it gets.
        equal: what becomes of an element whose two statistics are equal (whose deviation is 0): ``divide`` as any
            other, ``zero``, or ``keep`` as it is.
        near: equal is what `numpy.isclose` calls so.
        zero_constant: an element whose minimum is its maximum becomes 0, masked or not.
        masked: whether the statistics' ``mask`` is heeded: elements without it stay as they are.
        partial: statistics may be longer or shorter than the vector.
    """

    low: str
    high: str
    eps: float = 0.0
    eps_back: bool = False
    eps_if_zero: bool = False
    clip: bool = False
    clip_back: bool = False
    equal: Literal["divide", "zero", "keep"] = "divide"
    near: bool = False
    zero_constant: bool = False
    masked: bool = False
    partial: bool = False

    @property
    def bounds(self) -> bool:
        """Whether two bounds become -1 and 1."""
        return self.high != "std"


_OXE: Final = {"eps": 1e-8, "masked": True}
_LEROBOT: Final = {"eps": 1e-8, "eps_if_zero": True}
_GR00T: Final = {"equal": "zero", "near": True, "clip": True, "clip_back": True}

RULES: Final[Mapping[str, Rule | None]] = MappingProxyType(
    {
        "gr00t.mean_std": Rule(low="mean", high="std", equal="keep"),
        "gr00t.min_max": Rule(low="min", high="max", **_GR00T),  # type: ignore[arg-type]
        "gr00t.q99": Rule(low="q01", high="q99", **_GR00T),  # type: ignore[arg-type]
        "gr00t_n1.min_max": Rule(low="min", high="max", equal="zero"),
        "gr00t_n1.q99": Rule(low="q01", high="q99", equal="keep", clip=True),
        "lerobot.mean_std": Rule(low="mean", high="std", eps=1e-8),
        "lerobot.min_max": Rule(low="min", high="max", **_LEROBOT),  # type: ignore[arg-type]
        "lerobot.quantile10": Rule(low="q10", high="q90", **_LEROBOT),  # type: ignore[arg-type]
        "lerobot.quantiles": Rule(low="q01", high="q99", **_LEROBOT),  # type: ignore[arg-type]
        "octo.bounds": Rule(low="p01", high="p99", clip=True, **_OXE),  # type: ignore[arg-type]
        "octo.normal": Rule(low="mean", high="std", **_OXE),  # type: ignore[arg-type]
        "openpi.quantile": Rule(low="q01", high="q99", eps=1e-6, eps_back=True, partial=True),
        "openpi.zscore": Rule(low="mean", high="std", eps=1e-6, eps_back=True, partial=True),
        "openvla.bounds": Rule(low="min", high="max", clip=True, zero_constant=True, **_OXE),  # type: ignore[arg-type]
        "openvla.bounds_q99": Rule(low="q01", high="q99", clip=True, zero_constant=True, **_OXE),  # type: ignore[arg-type]
        "openvla.normal": Rule(low="mean", high="std", **_OXE),  # type: ignore[arg-type]
        "rdt": None,
    }
)
"""Rule by ``trainer.name``; None: the trainer feeds the numbers as they are. Sorted."""

TOKEN_RULES: Final = (*(name for name in RULES if name.startswith(("lerobot.", "openpi."))), "none")
"""Rules by which trainers make actions small before they become tokens; ``none``: they are of about [-1, 1]."""


def normalize(x: Array, stats: Mapping[str, Any], rule: str) -> Array:
    """What the trainer's network is fed for ``x``.

    Args:
        x: ``(..., D)``.
        stats: one feature's entry of the trainer's file: lists of ``D`` numbers by name, and maybe ``mask``.
        rule: of `RULES`.

    Raises:
        UsageError: E001, there is no such rule, or the statistics lack what it needs.
    """
    found = _rule(rule)
    if found is None:
        return np.asarray(x, dtype=np.float64)
    x, low, high = _with_ends(x, stats, found)
    width = x.shape[-1]
    span = high - low if found.bounds else high
    divisor = _divisor(span, found, back=False)
    equal = _equal(low, high, found)
    # What is not divided must not warn about dividing by zero.
    out = (x - low) / np.where(equal, 1.0, divisor)
    if found.bounds:
        out = 2 * out - 1
    if found.equal != "divide":
        out = np.where(equal, 0.0 if found.equal == "zero" else x, out)
    if found.clip:
        out = np.clip(out, -1.0, 1.0)
    if found.masked:
        out = np.where(_mask(stats, width), out, x)
    if found.zero_constant:
        constant = _statistic(stats, "min", found, width) == _statistic(stats, "max", found, width)
        out = np.where(constant, 0.0, out)
    return out


def denormalize(y: Array, stats: Mapping[str, Any], rule: str) -> Array:
    """What the trainer's policy makes of the network's output ``y``: the way back of `normalize`.

    Args:
        y: ``(..., D)``.
        stats: see `normalize`.
        rule: of `RULES`.

    Raises:
        UsageError: see `normalize`.
    """
    found = _rule(rule)
    if found is None:
        return np.asarray(y, dtype=np.float64)
    y, low, high = _with_ends(y, stats, found)
    width = y.shape[-1]
    extra = width - len(low)  # only openpi's rules allow it
    if extra and found.bounds:
        return np.concatenate([denormalize(y[..., : len(low)], stats, rule), y[..., len(low) :]], axis=-1)
    if extra:
        low, high = np.append(low, np.zeros(extra)), np.append(high, np.ones(extra))
    divisor = _divisor(high - low if found.bounds else high, found, back=True)
    inner = np.clip(y, -1.0, 1.0) if found.clip_back else y
    out = (inner + 1) / 2 * divisor + low if found.bounds else inner * divisor + low
    if not found.bounds and found.equal == "keep":
        out = np.where(_equal(low, high, found), y, out)
    return np.where(_mask(stats, width), out, y) if found.masked else out


def _rule(name: str) -> Rule | None:
    if name not in RULES:
        raise UsageError("E001", f"there is no rule {show(name)!r}; known are {', '.join(RULES)}")
    return RULES[name]


def _with_ends(x: Array, stats: Mapping[str, Any], rule: Rule) -> tuple[Array, Vector, Vector]:
    """``x`` as float64, and the two statistics that the rule maps to -1 and 1, or to 0 and 1."""
    x = np.asarray(x, dtype=np.float64)
    low, high = (_statistic(stats, name, rule, x.shape[-1]) for name in (rule.low, rule.high))
    return x, low, high


def _statistic(stats: Mapping[str, Any], name: str, rule: Rule, width: int) -> Vector:
    if stats.get(name) is None:
        raise UsageError("E206", f"the statistics have no {name}")
    values = np.asarray(stats[name], dtype=np.float64)
    if values.ndim != 1 or (len(values) != width and not rule.partial):
        raise UsageError(
            "E203", f"the statistic {name} has the shape {values.shape}, the vectors have {width} elements"
        )
    return values[:width]


def _divisor(span: Vector, rule: Rule, *, back: bool) -> Vector:
    if rule.eps_if_zero:
        return np.where(span == 0, rule.eps, span)
    return span if back and not rule.eps_back else span + rule.eps


def _equal(low: Vector, high: Vector, rule: Rule) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if rule.equal == "divide":
        return np.zeros(low.shape, dtype=bool)
    if not rule.bounds:
        return np.asarray(high == 0)
    return np.asarray(np.isclose(high, low) if rule.near else high == low)


def _mask(stats: Mapping[str, Any], width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = stats.get("mask")
    return np.ones(width, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
