"""What HDF5 files, RLDS records and rollouts have, told without the readers that are judged by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.hdf5.source import Hdf5Source
from converters.rlds import tfds_json
from converters.rlds.source import RldsSource
from converters.rollouts.source import PpoRolloutSource
from tests import rlds_toys, rollouts
from tests.hdf5_files import robomimic_file, source
from tests.lerobot_sets import Here
from tests.paths import TESTS
from vla_data.core import Episode
from vla_data.steps.features import Rename, SelectFeatures
from vla_data.verification.check import verify

RNG = np.random.default_rng(2)


def hdf5(root: Path) -> Any:
    images = RNG.integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
    root.mkdir()
    robomimic_file(
        root / "a.h5", obs__joints=RNG.normal(size=(5, 7)), obs__cam=images, force=RNG.normal(size=(5, 2))
    )
    return source(root, task="x")


def rlds(root: Path) -> Any:
    step = {
        "action": tfds_json.tensor((3,), "float32"),
        "observation": {
            "joints": tfds_json.tensor((7,), "float32"),
            "image": tfds_json.tensor((20, 24, 3), "uint8"),
        },
        "force": tfds_json.tensor((2,), "float32"),
    }
    values = {
        "action": rlds_toys.numbers(3),
        "observation/joints": rlds_toys.numbers(7),
        "observation/image": RNG.integers(0, 256, 4 * 20 * 24 * 3),
        "force": rlds_toys.numbers(2),
    }
    return rlds_toys.source(rlds_toys.write(root, step, values))


def ppo(root: Path) -> Any:
    made = rollouts.rollout(6)
    root.mkdir()
    made |= {"joints": RNG.normal(size=(7, 7)), "force": RNG.normal(size=(6, 2)), "wrist": made["image"]}
    rollouts.save(root, "a.npz", made)
    return PpoRolloutSource(root=root)


MAKERS = {"hdf5": (hdf5, Hdf5Source), "rlds": (rlds, RldsSource), "ppo_rollout": (ppo, PpoRolloutSource)}


@pytest.mark.parametrize("format", MAKERS)
def test_evidence_is_what_the_reader_gives(tmp_path: Path, format: str) -> None:
    opened = MAKERS[format][0](tmp_path / "in")
    ref = opened.episodes()[0]
    episode, found = opened.read(ref), opened.evidence(ref)
    features = {name for name in [*episode.arrays, *episode.frames] if not name.startswith(("info.", "next."))}
    assert features - {"observation.state", "task"} <= found.keys()
    assert set(found) <= features | {"next.success"}
    compared = 0
    for name, cells in found.items():
        if cells is not None:
            assert np.allclose(
                np.asarray(cells).reshape(len(episode), -1), episode.arrays[name].reshape(len(episode), -1)
            )
            compared += 1
    assert compared >= 3


def mistaken(monkeypatch: pytest.MonkeyPatch, cls: Any, change: Any) -> None:
    """The reader makes a mistake, whenever it reads."""
    read = cls.read

    def wrong(self: Any, ref: vd.EpisodeRef) -> Episode:
        episode = read(self, ref)
        return replace(episode, **change(episode))

    monkeypatch.setattr(cls, "read", wrong)


def without(name: str) -> Any:
    return lambda e: {
        "arrays": {key: array for key, array in e.arrays.items() if key != name},
        "frames": {key: frames for key, frames in e.frames.items() if key != name},
    }


def shifted(name: str) -> Any:
    return lambda e: {"arrays": {**e.arrays, name: np.roll(e.arrays[name], 1, axis=0)}}


LOST = {
    "hdf5": "observation.images.cam",
    "rlds": "observation.images.image",
    "ppo_rollout": "observation.images.wrist",
}


@pytest.mark.parametrize("format", MAKERS)
@pytest.mark.parametrize("what", ["nothing", "a vector", "a camera", "another row", "what the recipe drops"])
def test_a_mistake_of_the_reader_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, what: str
) -> None:
    """The dataset is made, and judged, with the same reader."""
    maker, cls = MAKERS[format]
    opened = maker(tmp_path / "in")
    changes = {"a vector": without("observation.joints"), "a camera": without(LOST[format])}
    changes |= {
        "another row": shifted("force"),
        "nothing": lambda e: {},
        "what the recipe drops": without("force"),
    }
    mistaken(monkeypatch, cls, changes[what])
    steps: tuple[Any, ...] = (Rename(names=(("action", "action.arm"),)),)
    if what == "what the recipe drops":
        steps = (SelectFeatures(drop=("force",)),)
    vd.run(opened, steps, vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    verdict = verify(tmp_path / "out", against=tmp_path / "in")
    problems = " ".join(damage.problem for damage in verdict.damages)
    want = {
        "a vector": "lacks observation.joints, which the source has",
        "a camera": f"lacks {LOST[format]}, which the source has",
        "another row": "force differs from the files of its source in row 0",
    }
    assert (want[what] in problems) if what in want else not verdict.damages, problems


def test_mistakes_about_what_layouts_have_of_their_own_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIBERO's robot states are of another row than its dones; only what our sink made up may be missing."""
    libero = TESTS / "data/hdf5/libero_spatial0_demo.hdf5"

    def wrong(episode: Episode) -> dict[str, Any]:
        lacking = replace(episode, **without("next.done")(episode))
        return shifted("observation.robot_states")(lacking) | {"frames": lacking.frames}

    mistaken(monkeypatch, Hdf5Source, wrong)
    vd.run(vd.open_source(libero), (), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    problems = {damage.problem for damage in verify(tmp_path / "out", against=libero).damages}
    assert problems == {
        "lacks next.done, which the source has or declares, and no note says why",
        "observation.robot_states differs from the files of its source in row 0",
    }
