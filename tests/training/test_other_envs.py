"""Other people's environments, each where it is installed: LeRobot's keys, starts by seed, lanes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from training_adapters.envs.lanes import Lanes
from training_adapters.envs.table import Place
from vla_data.errors import UsageError

NAMES = {
    "gym_aloha/AlohaTransferCube-v0": (14, 14),
    "gym_pusht/PushT-v0": (18, 2),
    "metaworld/push-v3": (39, 4),
    "metaworld/reach-v3": (39, 4),
}


def place(name: str) -> Place:
    pytest.importorskip(name.partition("/")[0])
    return Place.of(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_chunks_are_executed_and_starts_repeat(name: str) -> None:
    where, (state, action) = place(name), NAMES[name]
    begins = where.held_out(2)
    seen = []
    for order in (begins, begins):
        todo = list(order)
        side = Lanes(where, count=2, horizon=3, begins=lambda todo=todo: todo.pop(0) if todo else None)  # type: ignore[misc]
        side.begin()
        first = side.observations()
        moves = side.step(np.zeros((2, 3, action)))
        seen.append((first["observation.state"], [moved.last for moved in moves]))
        assert first["observation.state"].shape == (2, state)
        assert all(first["task"])
        assert [len(moved.steps) for moved in moves] == [3, 3]
        side.close()
    assert np.array_equal(seen[0][0], seen[1][0])
    if not name.startswith("gym_aloha"):  # its state is the arms' alone, and they begin alike
        assert not np.array_equal(seen[0][0][0], seen[0][0][1])


@pytest.mark.parametrize("name", ["gym_aloha/Nothing-v0", "gym_pusht/Nothing-v0", "metaworld/nothing-v3"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_name_that_it_does_not_have_is_one_line(name: str) -> None:
    with pytest.raises(UsageError, match="E001"):
        place(name).make()
