"""What a check of the dynamics found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from vla_data.core.findings import Finding, Section, html_of, text_of

SURE: Final = 3.0
"""Standard errors by which one form of a rotation must be better to be called so."""
CLEARLY: Final = 1.125
"""Times by which its residual must be smaller, too: ManiSkill's right form loses up to 1.119 times."""


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
class DynamicsReport:
    """What `check_dynamics` saw.

    Attributes:
        steps: steps that were compared.
        lag: steps by which motions follow the commands; 0 is right.
        lag_seconds: the same in seconds.
        lag_at_least: whether it is the largest that was tried, and may be larger.
        dimensions: each with its gain and residual.
        rotations: form of the rotation -> standard errors by which it explains the motion worse than the declared
            one (the best one, where none is declared); negative: better.
        rotation_residuals: form of the rotation -> times by which it leaves more of the motion unexplained.
        findings: what contradicts the convention; codes are ``off_by_one``, ``wrong_sign``, ``wrong_scale``,
            ``wrong_axes``, ``wrong_rotation``, ``wrong_gripper``, ``wrong_offset`` and ``wrong_rate``. Those of
            level ``note`` contradict nothing: ``late``, ``not_tested``.
    """

    steps: int
    lag: int
    lag_seconds: float
    dimensions: tuple[Dimension, ...]
    rotations: Mapping[str, float]
    findings: tuple[Finding, ...]
    rotation_residuals: Mapping[str, float] = field(default_factory=dict)
    lag_at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts the convention and something was tested."""
        return not self.contradicted and all(finding.code != "not_tested" for finding in self.findings)

    @property
    def contradicted(self) -> bool:
        """Whether something contradicts the convention."""
        return any(finding.level != "note" for finding in self.findings)

    @property
    def rotation_confirmed(self) -> bool:
        """Whether the motion tells the form of the rotation from all others that were tried."""
        times = self.rotation_residuals
        alike = [form for form, errors in self.rotations.items() if errors < SURE or times[form] < CLEARLY]
        return len(self.rotations) > 1 and len(alike) == 1

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        facts = asdict(self)
        findings = [finding.to_json() for finding in self.findings]
        return {**facts, "dimensions": list(facts["dimensions"]), "findings": findings, "ok": self.ok}

    def sections(self) -> tuple[Section, ...]:
        """A row a dimension, and what contradicts the convention."""
        rows = tuple(
            (d.name, f"{d.gain:.3f}", f"{d.residual:.1%}", "" if d.excited else "not excited")
            for d in self.dimensions
        )
        least = "at least " if self.lag_at_least else ""
        told = ", ".join(f"{name} {z:+.1f}" for name, z in self.rotations.items())
        return (
            Section(
                title=f"{self.steps:,} steps, lag {least}{self.lag:+d} ({self.lag_seconds:+.3f} s)",
                head=("dimension", "gain", "residual", "") if rows else (),
                rows=rows,
                right=frozenset({1, 2}),
                notes=(
                    *((_glued(f"rotation: {told}"),) if told else ()),
                    *(_glued(f"{finding.code}: {finding.message}") for finding in self.findings),
                ),
            ),
        )

    def __str__(self) -> str:
        return text_of(self.sections()).replace("\N{NO-BREAK SPACE}", " ")

    def _repr_html_(self) -> str:
        return html_of(self.sections())


def _glued(text: str) -> str:
    """The same; a form and its figure stay on one line."""
    return re.sub(r" ([+-]\d)", "\N{NO-BREAK SPACE}\\1", text)
