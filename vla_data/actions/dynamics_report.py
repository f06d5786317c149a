"""What a check of the dynamics found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

SURE: Final = 3.0
"""Standard errors by which one form of a rotation must be better to be called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One number of the motion.

    Attributes:
        name: for example ``translation_x`` or ``left_joints_3``.
        gain: share of a command that is carried out in all.
        residual: unexplained share of the motion.
        excited: whether the command shows in the motion at all; the rest means little where it doesn't.
    """

    name: str
    gain: float
    residual: float
    excited: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that contradicts the convention.

    Attributes:
        code: ``off_by_one``, ``wrong_sign``, ``wrong_scale``, ``wrong_rotation``, ``wrong_gripper``,
            ``wrong_rate`` or ``not_tested``; published words.
        message: one line, with the figures.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicsReport:
    """What `check_dynamics` saw.

    Attributes:
        steps: steps that were compared.
        lag: steps by which motions follow the commands; 0 is right.
        lag_seconds: the same in seconds.
        dimensions: each with its gain and residual.
        rotations: form of the rotation -> standard errors by which it explains the motion worse than the declared
            one (the best one, where none is declared); negative: better.
        findings: what is wrong; empty where nothing contradicts the convention.
    """

    steps: int
    lag: int
    lag_seconds: float
    dimensions: tuple[Dimension, ...]
    rotations: Mapping[str, float]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts the convention and something was tested."""
        return not self.findings

    @property
    def rotation_confirmed(self) -> bool:
        """Whether the motion tells the form of the rotation from all others that were tried."""
        others = [z for z in self.rotations.values() if z != 0]
        return bool(others) and min(others) >= SURE

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        facts = asdict(self)
        lists = {name: list(facts[name]) for name in ("dimensions", "findings")}
        return {**facts, **lists, "ok": self.ok}

    def __str__(self) -> str:
        lines = [f"{self.steps:,} steps, lag {self.lag:+d} ({self.lag_seconds:+.3f} s)"]
        for d in self.dimensions:
            note = "" if d.excited else "  (not excited)"
            lines.append(f"  {d.name:<20} gain {d.gain:7.3f}  residual {d.residual:6.1%}{note}")
        if self.rotations:
            lines.append("  rotation: " + ", ".join(f"{name} {z:+.1f}" for name, z in self.rotations.items()))
        lines.extend(f"  {finding.code}: {finding.message}" for finding in self.findings)
        return "\n".join(lines)
