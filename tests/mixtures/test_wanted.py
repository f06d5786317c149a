"""A mixture reads what its contract and its entries name, and nothing else costs it an episode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.lerobot_sets import TOP, camera, numbers, picture, png, records, vector, write
from vla_data.errors import UsageError
from vla_data.mixtures.config import Entry
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.member import Cache, Member

FRONT = "observation.images.front"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dataset with one camera that can be read, one that can't, and a column with gaps."""
    columns = {
        "action": numbers().tolist(),
        "observation.state": numbers().tolist(),
        "observation.effort": [*numbers().tolist()[:3], None],
        FRONT: records([png(picture(t)) for t in range(4)]),
        TOP: records([png(picture(t)[..., 0].astype(np.uint16) * 200) for t in range(4)]),
    }
    features = {name: vector() for name in ("action", "observation.state", "observation.effort")}
    return write(tmp_path / "in", [columns] * 2, {**features, FRONT: camera(), TOP: camera()})


def member(root: Path, contract: Contract) -> Member:
    return Member(Entry(root=str(root)), contract, number=0, cache=Cache(1 << 20), packs=None)


def test_what_the_contract_does_not_name_costs_nothing(root: Path) -> None:
    found = member(root, Contract(cameras=("front",)))
    assert (found.lengths, found.left_out) == ([4, 4], [])
    assert found.sizes == {"front": (8, 12)}
    np.testing.assert_array_equal(found.track(0).frames["front"].pixels(2), picture(2))


def test_what_the_contract_names_and_can_not_be_read_costs_the_episode(root: Path) -> None:
    contract = Contract(cameras=("front",))
    for named in (replace(contract, cameras=("top",)), replace(contract, extras=("observation.effort",))):
        found = member(root, named)
        assert (found.lengths, len(found.left_out)) == ([], 2)


def test_a_camera_that_is_not_there_is_told_with_those_that_are(root: Path) -> None:
    with pytest.raises(UsageError, match=f"{FRONT}, {TOP}"):
        member(root, Contract(cameras=("wrist",)))
