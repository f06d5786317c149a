"""Do the actions explain the motion? A check of a declared convention against measured states.

**The model.** What the arm moves in step t follows the command of step t - lag and its own motion before,

    v[t] = a v[t-1] + b u[t - lag]

where u and v are metres and rotation vectors (or joints) in one step about the same fixed axes, fitted by least
squares for every dimension over all episodes. The first step is left out (its pose is often one of a reset), and
so are as many at both ends as the lags that are tried need. From the fit:

* **lag**: that of the smallest residual, as the geometric mean over dimensions; the nearest to 0 that comes within
  15 % of it. -1 means that a state was recorded after its action and not before. A motion that comes late is what
  real robots and teleoperation make of any command, so it contradicts nothing, unless the controller is known to
  act at once; everything else is then judged with commands moved to where they show.
* **gain** = b / (1 - a): the share of a command that is carried out in all. It is near 1 for commands that add up
  (``previous_target``, ``absolute``), and the controller's own for those that start anew from the measured pose:
  0.2 to 0.3 for robosuite's OSC, 0.4 for ManiSkill's. A median gain of translations (or rotations, or joints) that
  is more than twice or less than half of what is expected is a wrong scale; below 0, a wrong sign.
* **residual**: what is not explained, as a share of the motion's root mean square.
* **rotation forms**: to first order all three-number forms of a rotation are alike, so they are told apart by
  what else fits better, by Vuong's test (Econometrica 57, 1989), at 3 standard errors and an eighth of the
  residual: the model is not the controller, and smaller differences are its own faults. It takes 64 steps. Where
  commands add up, the orientations that they lead to are compared instead of single steps. Often no episode of
  small rotations can tell them apart, and the report says so. 6-D forms may be each other's inverse, so theirs
  must move the arm forwards.
* **order of axes**: by the same test, another order of a translation's axes that moves the arm forwards, against
  the declared order with any signs. Short or straight episodes don't tell.
* **turned frames** and **offsets** between commanded and measured poses: see `vla_data.dynamics.turned`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.actions.convention import UNDECLARED, Convention, arm, missing, quantity
from vla_data.actions.rotations import Floats, is_angles
from vla_data.core.findings import Finding
from vla_data.dynamics.fit import EXCITED, LAGS, Fit, fit_motions, measured_lag
from vla_data.dynamics.report import CLEARLY, SURE, Dimension, DynamicsReport
from vla_data.dynamics.task import Task
from vla_data.errors import UsageError

_BAND: Final = 2.0
_FEWEST: Final = 12
_ENOUGH: Final = 64
"""Steps from which on forms of a rotation are compared; Vuong's test is one for many."""


def check_dynamics(
    actions: NDArray[Any] | Sequence[NDArray[Any]],
    states: NDArray[Any] | Sequence[NDArray[Any]],
    convention: Convention,
    fps: float,
    *,
    state_convention: Convention,
    base: NDArray[Any] | None = None,
) -> DynamicsReport:
    """Compare what actions command with what states show.

    Args:
        actions: ``(T, width)``, or one such array an episode.
        states: ``(T, P)`` or ``(T + 1, P)``: measured before each action, and the same for episodes.
        convention: of the actions, as declared. Its rotation may be undeclared; all forms are tried then.
        fps: steps per second of the recording.
        state_convention: of the states; absolute.
        base: ``(4, 4)``: pose of the robot's base in the world, where the frames of the two differ.

    Raises:
        UsageError: E231 or E232 when the two can't be compared.
        DataError: E201, E202 for numbers that mean nothing.
    """
    fps = checks.number("fps", fps, low=1e-3, high=1e6)
    pairs = _pairs(actions, states)
    _refuse_undeclared(convention, state_convention)
    task = Task(pairs, convention, state_convention, base, fps)
    first = convention.rotation if convention.rotation != UNDECLARED else "rotvec"
    commands = task.commands(first)
    motions = [task.motion(state) for _, state in pairs]
    names = task.names
    fits = {lag: fit_motions(commands, motions, lag) for lag in LAGS}
    steps = fits[0].steps
    if steps < _FEWEST:
        few = _untested(f"{steps} steps are too few; {_FEWEST} are needed")
        return DynamicsReport(steps=steps, lag=0, lag_seconds=0.0, dimensions=(), rotations={}, findings=(few,))
    lag, at_least = measured_lag(fits, commands, motions)
    fit = fits[lag] if lag in fits else fit_motions(commands, motions, lag, reach=abs(lag) + 1)
    excited = np.max([np.abs(one.errors) for one in (*fits.values(), fit)], axis=0) > EXCITED
    dimensions = tuple(
        Dimension(name=name, gain=float(g), residual=float(r), excited=bool(e))
        for name, g, r, e in zip(names, fit.gain, fit.residual, excited, strict=True)
    )
    if lag > 0:  # what is said below is said of commands and what they lead to
        pairs = [(action[: len(action) - lag], state[lag:]) for action, state in pairs if len(action) > lag]
        task = Task(pairs, convention, state_convention, base, fps)
        commands, motions = task.commands(first), [task.motion(state) for _, state in pairs]
    paired = lag >= 0
    rotations, times = task.rotations(motions) if paired and steps >= _ENOUGH else ({}, {})
    findings = [
        *_timing(lag, (fits[0], fit), excited, convention, fps, least="at least " if at_least else ""),
        *_gains(dimensions, convention),
        *(task.axes(commands, motions) if paired else ()),
        *_rotation(rotations, times, convention),
        *(task.state_rotation() if paired and steps >= _ENOUGH else ()),
    ]
    if paired and steps >= _ENOUGH and all(finding.code in ("wrong_rate", "late") for finding in findings):
        findings += task.offsets(motions)  # of a wrong scale, sign or form there is one as well
    findings += task.gripper()
    if not excited.any():
        findings.append(_untested("no command shows in the motion"))
    return DynamicsReport(
        steps=steps,
        lag=lag,
        lag_seconds=lag / fps,
        lag_at_least=at_least,
        dimensions=dimensions,
        rotations=rotations,
        rotation_residuals=times,
        findings=tuple(findings),
    )


def _pairs(actions: Any, states: Any) -> list[tuple[Floats, Floats]]:
    one = isinstance(actions, np.ndarray) and actions.ndim == 2
    pairs = [(actions, states)] if one else list(zip(actions, states, strict=True))
    if not pairs:
        raise UsageError("E232", "there are no episodes to check")
    out = []
    for action, state in pairs:
        a, s = np.asarray(action, dtype=np.float64), np.asarray(state, dtype=np.float64)
        if len(s) not in (len(a), len(a) + 1):
            raise UsageError("E232", f"{len(s)} states for {len(a)} actions; one each, or one more")
        out.append((a, s))
    return out


def _refuse_undeclared(convention: Convention, state: Convention) -> None:
    """That all is declared without which nothing can be compared; what is not is named at once.

    Raises:
        UsageError: E231; E232 for states that are no positions.
    """
    if state.kind not in ("absolute", UNDECLARED):
        raise UsageError("E232", f"the states are declared as kind {state.kind}, and poses are absolute")
    lacks = []
    for whose, meant, tried in (("actions", convention, ("rotation",)), ("states", state, ())):
        kinds = {quantity(name) for name in meant.layout if name in convention.layout}
        wanted = {"translation": ["translation_unit"], "joints": ["joint_unit"]}
        angles = meant.rotation == UNDECLARED or is_angles(meant.rotation)
        wanted["rotation"] = ["rotation", *(["rotation_unit"] if angles else [])]
        facts = [] if meant.layout else ["layout"]
        facts += ["kind"] * (meant.kind == UNDECLARED)
        for kind in wanted.keys() & kinds if meant.layout else ():
            facts += [n for n in wanted[kind] if n not in tried and getattr(meant, n) == UNDECLARED]
        if facts:
            more = "" if meant.layout else " and the units of its parts"
            lacks.append(f"the {whose}' {', '.join(sorted(facts))}{more}")
    if lacks:
        raise missing(*lacks)


def _untested(message: str) -> Finding:
    return Finding(code="not_tested", level="note", message=message)


def _timing(
    lag: int, fits: tuple[Fit, Fit], excited: NDArray[np.bool_], convention: Convention, fps: float, *, least: str
) -> list[Finding]:
    out = []
    if lag != 0:
        better = float(np.exp((fits[0].log_rms - fits[1].log_rms)[excited].mean()))
        said = f"motions follow actions by {least}{lag:+d} steps ({better:.2f} times better than 0)"
        known = convention.controller is not None and convention.controller.translation_gain is not None
        if lag < 0 or known:
            why = "states are recorded after their actions" if lag < 0 else "the motion comes late"
            out.append(Finding(code="off_by_one", message=f"{said}: {why}"))
        else:
            why = f"the robot takes {least}{lag / fps:.2g} s, or states are recorded too early"
            out.append(Finding(code="late", level="note", message=f"{said}: {why}"))
    rate = convention.control_rate
    if rate is not None and abs(rate - fps) > 1e-3 * rate:
        message = f"recorded at {fps:g} steps a second, and the convention says {rate:g}"
        out.append(Finding(code="wrong_rate", message=message))
    return out


def _gains(dimensions: Sequence[Dimension], convention: Convention) -> list[Finding]:
    out = []
    back = [d for d in dimensions if d.excited and d.gain < 0]
    if back:
        listed = ", ".join(f"{d.name} {d.gain:.2f}" for d in back)
        out.append(Finding(code="wrong_sign", message=f"moves against its command: {listed}"))
    groups: dict[tuple[str, str], list[float]] = {}
    for d in dimensions:
        if d.excited:
            part = d.name.rpartition("_")[0]
            groups.setdefault((arm(part), quantity(part)), []).append(abs(d.gain))
    for (prefix, kind), gains in groups.items():
        gain = float(np.median(gains))
        low, expected, high = _expected(kind, convention)
        if not low <= gain <= high:
            name = f"{prefix}_{kind}" if prefix else kind
            wanted = f"{expected:g} is usual" if expected else f"{low:g} to {high:g} is possible"
            message = f"{name} moves {gain:.3g} of what is commanded, and {wanted}"
            out.append(Finding(code="wrong_scale", message=message))
    return out


def _expected(kind: str, convention: Convention) -> tuple[float, float | None, float]:
    """The lowest gain, the usual one, the highest."""
    usual: float | None = None
    if convention.kind == "absolute" or convention.reference == "previous_target":
        usual = 1.0
    elif convention.controller is not None and kind in ("translation", "rotation"):
        usual = getattr(convention.controller, f"{kind}_gain")
    if usual is None:
        # A pose that is commanded anew at each step is at most reached; by how much it is missed is not known.
        return 0.02, None, 1.5
    return usual / _BAND, usual, usual * _BAND


def _rotation(rotations: Mapping[str, float], times: Mapping[str, float], convention: Convention) -> list[Finding]:
    better = [form for form, errors in rotations.items() if errors <= -SURE and times[form] * CLEARLY <= 1]
    if not better or convention.rotation == UNDECLARED:
        return []
    best = min(better, key=lambda form: rotations[form])
    message = (
        f"{best} explains the motion better than {convention.rotation} by {-rotations[best]:.1f} standard errors"
    )
    return [Finding(code="wrong_rotation", message=message)]
