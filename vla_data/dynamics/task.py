"""Recorded episodes as commands and motions in the same axes and units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.convention import UNDECLARED, Convention, arm, missing, quantity
from vla_data.actions.convert import convert
from vla_data.actions.rotations import WIDTHS, Floats, from_quaternion, inverse, multiply, to_quaternion
from vla_data.core.findings import Finding
from vla_data.dynamics.fit import fit_motions, vuong
from vla_data.dynamics.report import CLEARLY, SURE
from vla_data.dynamics.turned import clearly, offset, turned
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

_FORMS: Final = (
    ("rotvec", "euler_extrinsic_xyz", "euler_intrinsic_xyz", "euler_extrinsic_zyx", "euler_intrinsic_zyx"),
    ("quaternion_xyzw", "quaternion_wxyz"),
    ("6d_columns", "6d_rows", "6d_interleaved"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """Episodes with what they mean."""

    pairs: Sequence[tuple[Floats, Floats]]
    convention: Convention
    state: Convention
    base: NDArray[Any] | None
    fps: float

    @property
    def parts(self) -> list[str]:
        """The parts of an action that the states have too, and that move."""
        moving = [n for n in self.convention.layout if quantity(n) in ("translation", "rotation", "joints")]
        shared = [name for name in moving if name in self.state.layout]
        if not shared:
            raise UsageError("E232", f"actions have {_listed(moving)}, states have {_listed(self.state.layout)}")
        return shared

    @property
    def names(self) -> list[str]:
        """Of the dimensions, in the order of `motion`."""
        out: list[str] = []
        for name in self.parts:
            if quantity(name) == "joints":
                out.extend(f"{name}_{i}" for i in range(len(self.convention.layout[name])))
            else:
                out.extend(f"{name}_{axis}" for axis in "xyz")
        return out

    def commands(self, rotation: str) -> list[Floats]:
        """``(T, D)`` an episode: metres, rotation vectors, radians commanded in each step."""
        source = self._source(rotation)
        reference = "previous_target" if source.kind == "absolute" else source.reference
        target = self._target(kind="delta", reference=reference, chunk=source.chunk)
        return [self._converted(source, target, pair) for pair in self.pairs]

    def targets(self, rotation: str) -> list[Floats]:
        """``(T, 3)`` an episode and arm: from the measured orientation to the target's, as rotation vectors."""
        source = self._source(rotation)
        target = self._target(kind="absolute")
        out = []
        for pair in self.pairs:
            goals = self._converted(source, target, pair)
            rows = []
            for i, name in enumerate(self.parts):
                if quantity(name) == "rotation":
                    at = self._starts()[i]
                    goal = to_quaternion(goals[:, at : at + 3], "rotvec")
                    now = self._orientation(pair[1], name)[: len(goal)]
                    rows.append(from_quaternion(multiply(goal, inverse(now)), "rotvec"))
            out.append(np.concatenate(rows, axis=1))
        return out

    def motion(self, state: Floats) -> Floats:
        """``(S - 1, D)``: what moved from each state to the next."""
        columns = []
        for name in self.parts:
            if quantity(name) == "rotation":
                q = self._orientation(state, name)
                columns.append(from_quaternion(multiply(q[1:], inverse(q[:-1])), "rotvec"))
            else:
                target = self._state_target(name)
                columns.append(np.diff(convert(state, self.state, target)[:, target.layout[name]], axis=0))
        return np.concatenate(columns, axis=1)

    def rotations(self, motions: Sequence[Floats]) -> tuple[dict[str, float], dict[str, float]]:
        """Each form of a rotation -> standard errors by which it explains less than the declared one.

        And -> times by which its residual is larger.
        """
        columns = [i for i, name in enumerate(self.names) if "rotation" in name.split("_")]
        widths = {len(self.convention.layout[n]) for n in self.parts if quantity(n) == "rotation"}
        declared = self.convention.rotation
        forms = [form for group in _FORMS for form in group if WIDTHS[form] in widths]
        if declared != UNDECLARED and declared not in forms and forms:
            forms.insert(0, declared)
        add_up = self.convention.kind == "absolute" or self.convention.reference == "previous_target"
        turned = [motion[:, columns] for motion in motions]
        found: dict[str, Floats] = {}
        for form in forms:
            try:
                if add_up:
                    explained = self.targets(form)
                else:
                    explained = [command[:, columns] for command in self.commands(form)]
            except (DataError, ValueError):
                continue  # these numbers are no rotation of that form
            # Rows for columns is the inverse, which differs in nothing but the sign of the gain.
            forward = form.startswith("6d")
            found[form] = fit_motions(explained, turned, 0, reach=1, forward=forward).likelihood.sum(axis=1)
        if not found or (declared != UNDECLARED and declared not in found):
            return {}, {}
        best = max(found, key=lambda form: float(found[form].sum())) if declared == UNDECLARED else declared
        less = {form: found[best] - likelihood for form, likelihood in found.items()}
        # Of Gaussian rests, the mean log-likelihood is the residual's logarithm.
        times = {form: float(np.exp(row.mean() / len(columns))) for form, row in less.items()}
        return {form: vuong(row) for form, row in less.items()}, times

    def state_rotation(self) -> list[Finding]:
        """Whether the states' 6-D rotations are written another way: rows of the matrix for its columns.

        The turn of a step is as large either way, so what is left of it can be compared.
        """
        forms = _FORMS[2]
        columns = [i for i, name in enumerate(self.names) if "rotation" in name.split("_")]
        if self.state.rotation not in forms or not columns:
            return []
        declared = (self.state.rotation, self.convention.rotation)
        found: dict[tuple[str, str], Floats] = {}
        for form in forms:
            for of_action in forms if declared[1] in forms else (declared[1],):
                if form == declared[0] and of_action != declared[1]:
                    continue  # `rotations` compares the actions' forms
                other = replace(
                    self,
                    state=replace(self.state, rotation=form),
                    convention=replace(self.convention, rotation=of_action),
                )
                try:
                    told = [rows[:, columns] for rows in other.commands(of_action)]
                    moved = [other.motion(state)[:, columns] for _, state in self.pairs]
                except (DataError, ValueError):
                    continue  # these numbers are no rotation of that form
                fit = fit_motions(told, moved, 0, reach=1, forward=True)
                found[form, of_action] = fit.likelihood.sum(axis=1)
        best = max(found, key=lambda forms: float(found[forms].sum()))
        if best == declared or declared not in found:
            return []
        better = found[best] - found[declared]
        errors, times = vuong(better), float(np.exp(better.mean() / len(columns)))
        if errors < SURE or times < CLEARLY:
            return []
        also = f" and {best[1]} of the actions" if best[1] != declared[1] else ""
        message = (
            f"{best[0]} of the states{also} explains the motion better than {declared[0]} by {errors:.1f} "
            "standard errors"
        )
        return [Finding(code="wrong_rotation", message=message)]

    def axes(self, commands: Sequence[Floats], motions: Sequence[Floats]) -> list[Finding]:
        """Whether a translation follows its commands in another order of axes.

        An order must explain more, moving forwards, than the declared one does with any signs. Where none does,
        see `vla_data.dynamics.turned`.
        """
        swapped: list[Finding] = []
        out: list[Finding] = []
        for name, positions in self._layout().items():
            columns = list(positions)
            moved = [motion[:, columns] for motion in motions]
            told = [command[:, columns] for command in commands]
            if quantity(name) == "rotation":
                out += turned(name, told, moved)
            if quantity(name) != "translation":
                continue
            declared = fit_motions(told, moved, 0, reach=1).likelihood.sum(axis=1)
            others: dict[tuple[int, ...], Floats] = {}
            for order in list(permutations(range(3)))[1:]:
                other = [command[:, order] for command in told]
                others[order] = fit_motions(other, moved, 0, reach=1, forward=True).likelihood.sum(axis=1)
            best = max(others, key=lambda order: float(others[order].sum()))
            errors = vuong(others[best] - declared)
            if errors >= SURE:
                listed = " ".join("xyz"[axis] for axis in best)
                message = f"{name} x y z follows the commands {listed} better, by {errors:.1f} standard errors"
                swapped.append(Finding(code="wrong_axes", message=message))
            else:
                out += turned(name, told, moved)
        if swapped:
            return swapped + out
        return self._of_the_hand(commands, motions) or out

    def _of_the_hand(self, commands: Sequence[Floats], motions: Sequence[Floats]) -> list[Finding]:
        """Whether motions are commanded along the end effector's own axes against what is declared, or are not."""
        own = "end_effector" in (self.convention.frame, self.convention.rotation_frame)
        moving = self.convention.kind in ("delta", "velocity") and self.convention.rotation != UNDECLARED
        if not moving or not any(quantity(name) == "rotation" for name in self.state.layout):
            return []
        frame = self.state.frame if own else "end_effector"
        meant = replace(self.convention, frame=frame, rotation_frame=None)
        try:
            others = replace(self, convention=meant).commands(self.convention.rotation)
        except (DataError, UsageError, ValueError):
            return []  # the state is not of what such axes need
        out = []
        for name, positions in self._layout().items():
            columns = list(positions)
            if quantity(name) == "joints":
                continue
            moved = [motion[:, columns] for motion in motions]
            one, other = (
                fit_motions([told[:, columns] for told in rows], moved, 0, reach=1, forward=forward)
                for rows, forward in ((commands, False), (others, True))
            )
            declared, better = one.likelihood.sum(axis=1), other.likelihood.sum(axis=1)
            if clearly(declared, better, len(columns)):
                message = (
                    f"{name} follows its commands in the frame {frame} better than in {self.convention.frame}, by "
                    f"{vuong(better - declared):.1f} standard errors"
                )
                out.append(Finding(code="wrong_axes", message=message))
        return out

    def offsets(self, motions: Sequence[Floats]) -> list[Finding]:
        """Whether commanded poses are other poses than measured ones; see `vla_data.dynamics.turned`."""
        source = self._source(self.convention.rotation)
        if source.kind != "absolute":
            return []
        target = self._target(kind="absolute")
        goals = [self._converted(source, target, pair) for pair in self.pairs]
        reached = [convert(state, self.state, self._reached(target)) for _, state in self.pairs]
        counts = [min(len(goal), len(state) - 1) for goal, state in zip(goals, reached, strict=True)]
        out = []
        turns = {arm(name): name for name in target.layout if quantity(name) == "rotation"}
        for name, positions in target.layout.items():
            columns, kind = list(positions), quantity(name)
            told = [goal[:n, columns] for goal, n in zip(goals, counts, strict=True)]
            seen = [state[1 : n + 1, columns] for state, n in zip(reached, counts, strict=True)]
            moved = [motion[:n, columns] for motion, n in zip(motions, counts, strict=True)]
            poses = None
            if kind != "joints" and arm(name) in turns:
                at = list(target.layout[turns[arm(name)]])
                own = [state[1 : n + 1, at] for state, n in zip(reached, counts, strict=True)]
                poses = [to_quaternion(rows, "rotvec") for rows in own]
            errors = [a - b for a, b in zip(told, seen, strict=True)]
            if kind == "rotation":
                pairs = zip(told, seen, strict=True)
                errors = [
                    multiply(to_quaternion(a, "rotvec"), inverse(to_quaternion(b, "rotvec"))) for a, b in pairs
                ]
            out += offset(name, kind, errors, moved, poses)
        return out

    def _reached(self, target: Convention) -> Convention:
        """The states' own parts, of which those of ``target`` are at its positions."""
        rest = [name for name in self.state.layout if name not in target.layout]
        layout, at = dict(target.layout), target.width
        for name in rest:
            layout[name] = tuple(range(at, at + len(self.state.layout[name])))
            at += len(layout[name])
        return replace(target, layout=layout)

    def gripper(self) -> list[Finding]:
        """Whether an arm's gripper opens when it is told to close."""
        out = []
        for name in self.convention.layout:
            if quantity(name) != "gripper" or name not in self.state.layout or self.state.gripper_open is None:
                continue
            if self.convention.gripper_open is None:
                continue
            told, seen = [], []
            for action, state in self.pairs:
                command = _opening(action[:, self.convention.layout[name][0]], self.convention)
                opening = _opening(state[:, self.state.layout[name][0]], self.state)
                # A gripper takes some steps; three is enough for the ones we know to have begun moving.
                t = np.arange(min(len(command), len(opening) - 3))
                told.append(command[t])
                seen.append(opening[t + 3])
            one, other = np.concatenate(told), np.concatenate(seen)
            if len(one) > 1 and one.std() > 0 and other.std() > 0:
                alike = float(np.corrcoef(one, other)[0, 1])
                if alike < -0.5:
                    message = f"{name} is open where it is told to close (correlation {alike:.2f})"
                    out.append(Finding(code="wrong_gripper", message=message))
        return out

    def _source(self, rotation: str) -> Convention:
        # What is undeclared in the frame is taken to be the states'; a check has nothing else to go by.
        frame = self.state.frame if self.convention.frame == UNDECLARED else self.convention.frame
        rate = self.convention.control_rate or self.fps
        return replace(self.convention, rotation=rotation, frame=frame, control_rate=rate)

    def _target(self, **facts: Any) -> Convention:
        return Convention(
            layout=self._layout(),
            frame=self.state.frame,
            translation_unit="m",
            rotation_unit="rad",
            joint_unit="rad",
            rotation="rotvec",
            **facts,
        )

    def _layout(self) -> dict[str, tuple[int, ...]]:
        layout: dict[str, tuple[int, ...]] = {}
        at = 0
        for name in self.parts:
            width = 3 if quantity(name) != "joints" else len(self.convention.layout[name])
            layout[name] = tuple(range(at, at + width))
            at += width
        return layout

    def _starts(self) -> list[int]:
        return [positions[0] for positions in self._layout().values()]

    def _converted(self, source: Convention, target: Convention, pair: tuple[Floats, Floats]) -> Floats:
        action, state = pair
        wanted = {name: source.layout[name] for name in self.parts}
        source = replace(source, layout=wanted, size=source.width)
        return convert(
            action, source, target, state=state, state_convention=self.state, base=self.base, saturate=True
        )

    def _orientation(self, state: Floats, name: str) -> Floats:
        target = self._state_target(name)
        values = convert(state, self.state, target)[:, target.layout[name]]
        return to_quaternion(values, target.rotation)

    def _state_target(self, name: str) -> Convention:
        return replace(self.state, translation_unit="m", joint_unit="rad", rotation_unit="rad")


def _opening(values: Floats, convention: Convention) -> Floats:
    if convention.gripper_open is None or convention.gripper_closed is None:
        raise missing("gripper_open and gripper_closed")
    return (values - convention.gripper_closed) / (convention.gripper_open - convention.gripper_closed)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(show, names)) or "nothing that moves"
