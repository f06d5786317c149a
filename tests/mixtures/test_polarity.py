"""Which way a gripper goes is told from what recorded states do, or said to be undeclared; it is never guessed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vla_data as vd
from tests.mixtures.test_meanings import Meant, meant
from vla_data.actions import Convention
from vla_data.actions.polarity import Polarity
from vla_data.mixtures import Mixture

Floats = NDArray[np.float64]
Mixed = Callable[..., Mixture]
CONTRACT = {"state_dim": 3, "action_dim": 2}
WIDTH = Convention(layout={"gripper": (2,)}, gripper_control="position", gripper_open=0.08, gripper_closed=0.0)


def episode(
    seed: int, ends: tuple[float, float], *, opens: str, stored: str = "width", steps: int = 400
) -> tuple[Floats, Floats]:
    """Actions ``(T, 2)``: a move and a gripper's command; states ``(T, 3)``: a height, an angle, the gripper.

    The arm lifts a while after each switch, closing or opening. Two of three objects stop the fingers half way.
    """
    rng = np.random.default_rng(seed)
    is_open, width, height, angle = True, 0.08, 0.0, 0.0
    actions, states = [], []
    until, since = int(rng.integers(8, 20)), 0
    for _ in range(steps):
        if until == 0:
            is_open, until, since = not is_open, int(rng.integers(12, 30)), 0
            stop = 0.0 if rng.random() < 1 / 3 else 0.04
        states.append([height, angle, width if stored == "width" else 0.08 - width])
        high = is_open if opens == "high" else not is_open
        actions.append([rng.normal(), ends[1] if high else ends[0]])
        goal = 0.08 if is_open else locals().get("stop", 0.0)
        width += np.clip(goal - width, -0.02, 0.02) if since >= 1 else 0.0
        height += 0.01 if 3 < since < 9 else -0.01 * (height > 0.2)
        angle += rng.normal() * 0.02
        until, since = until - 1, since + 1
    return np.asarray(actions), np.asarray(states)


@dataclass(frozen=True, kw_only=True)
class Gripping(Meant):
    """Episodes of a gripper, with states or without."""

    lengths: tuple[int, ...] = (400, 400)
    made: tuple[Any, ...] = ()

    def read(self, ref: vd.EpisodeRef) -> vd.Episode:
        found = super().read(ref)
        actions, states = self.made[int(ref.id[-1]) % len(self.made)]
        return replace(found, arrays={**found.arrays, "action": actions, "observation.state": states})


def gripping(
    seed: int,
    *,
    ends: tuple[float, float] = (0.0, 1.0),
    opens: str = "high",
    stored: str = "width",
    state: Convention | None = None,
) -> Gripping:
    plain = meant(None, state)
    made = tuple(episode(seed * 10 + n, ends, opens=opens, stored=stored) for n in range(2))
    return Gripping(**{**vars(plain), "lengths": (400, 400), "made": made})


def said(mixture: Mixture) -> list[str]:
    return [f.message for f in mixture.effective.findings if "gripper_open and gripper_closed" in f.message]


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("opens", ["high", "low"])
@pytest.mark.parametrize("stored", ["width", "closedness"])
def test_a_state_that_the_gripper_moves_is_found_and_others_are_not(
    ends: tuple[float, float], opens: str, stored: str
) -> None:
    for seed in range(6):
        found = Polarity()
        found.add(*episode(seed, ends, opens=opens, stored=stored))
        assert found.two_ended == {1}
        assert found.shown(1) == {2: 1 if (opens == "high") == (stored == "width") else -1}
        assert found.shown(0) == {}


def test_what_moves_all_the_time_or_after_every_switch_alike_is_no_evidence() -> None:
    actions, states = episode(1, (0, 1), opens="high")
    blind = Polarity()
    blind.add(actions, states[:, :2])
    assert blind.two_ended == {1}
    assert blind.shown(1) == {}
    few = Polarity()
    few.add(actions[:60], states[:60])
    assert few.shown(1) == {}
    none = Polarity()
    none.add(actions, states[:, :0])
    assert none.shown(1) == {}
    smooth = Polarity()
    smooth.add(np.sin(np.arange(400) / 9)[:, None], states)
    assert smooth.two_ended == set()


def test_opposite_grippers_of_one_range_are_named(mixed: Mixed) -> None:
    (text,) = said(mixed([gripping(1), gripping(2, opens="low")], CONTRACT))
    assert "action [1] makes state [2] grow in s0 and shrink in s1" in text
    assert "declare gripper_open and gripper_closed" in text
    assert not said(mixed([gripping(1), gripping(2)], CONTRACT))


def test_declared_states_say_which_end_is_open(mixed: Mixed) -> None:
    closed = replace(WIDTH, gripper_open=0.0, gripper_closed=0.08)
    one, other = gripping(1, state=WIDTH), gripping(2, opens="low", stored="closedness", state=closed)
    (text,) = said(mixed([one, other], CONTRACT))
    assert "action [1] opens the gripper in s0 and closes it in s1, by their recorded states" in text
    same = gripping(2, stored="closedness", state=closed)  # the number goes the other way, the gripper does not
    assert not said(mixed([one, same], CONTRACT))


def test_without_evidence_the_dataset_is_named_and_nothing_is_guessed(mixed: Mixed) -> None:
    blind = replace(gripping(2), made=tuple((a, s[:, [0, 1, 1]]) for a, s in gripping(2).made))
    (text,) = said(mixed([gripping(1), blind], CONTRACT))
    assert "nothing shows which one opens it in s0 and s1" in text
    (text,) = said(mixed([gripping(1, state=WIDTH), gripping(2)], CONTRACT))
    assert text.count("in s1") == 1
    assert "opens it in s0" not in text
