"""RDT and RDT2 themselves read what was prepared and take steps on it, in small; the numbers are ours."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from converters.rdt2 import shards
from tests import two_arms
from tests.paths import TESTS
from tests.trainers.judging import LIBERO, Trainer, made

RDT, RDT2 = Trainer("rdt"), Trainer("rdt2")
pytestmark = pytest.mark.nightly


@RDT.needed
def test_rdts_own_dataset_and_model_take_steps(tmp_path: Path) -> None:
    """RDT's dataset, collator and `RDTRunner`, started by the printed program in the place of its ``main.py``."""
    done = made(tmp_path / "out", "rdt", LIBERO, images={"shortest": 1})
    rdt = tmp_path / "RDT"
    rdt.mkdir()
    for entry in RDT.repo.iterdir():
        if entry.name not in ("main.py", ".git"):
            (rdt / entry.name).symlink_to(entry)
    (rdt / "main.py").symlink_to(TESTS / "judges/rdt_step.py")
    seen = RDT.run(tmp_path / "out/rdt_finetune.py", cwd=rdt)
    assert np.isfinite(seen["losses"]).all()
    assert seen["losses"][-1] < seen["losses"][0]
    assert seen["freq"] == [20] * 4
    ours = []
    for path in done.folder.rglob("*.hdf5"):
        with h5py.File(path, "r") as file:
            ours.append(file["action"][:])
    rows = np.concatenate(ours)
    for action in seen["actions"]:
        assert np.abs(rows - np.array(action)).max(axis=1).min() < 1e-6


@RDT2.needed
def test_rdt2s_own_dataset_and_expert_take_steps(tmp_path: Path) -> None:
    """RDT2's dataset and collator; its action expert on what its normalizer makes of the actions."""
    done = made(tmp_path / "out", "rdt2", two_arms.write(tmp_path / "in"), images={})
    seen = RDT2.judge("rdt2_judge.py", RDT2.repo, tmp_path / "out/rdt2.yaml", cwd=tmp_path)
    assert (seen["type"], seen["sizes"]) == ("torch.float32", [[768, 384]] * 4)
    assert {text.partition("<")[0] for text in seen["text"]} <= set(two_arms.TASKS)
    assert np.isfinite(seen["losses"]).all()
    assert seen["losses"][-1] < seen["losses"][0]
    ours = [
        sample.chunk()
        for path in sorted((done.folder / "shards").iterdir())
        for sample in shards.read(path, root=done.folder)
    ]
    for action, given in zip(seen["actions"], seen["given"], strict=True):
        (chunk,) = [chunk for chunk in ours if np.array_equal(np.float32(action), chunk)]
        np.testing.assert_allclose(given, chunk * seen["scale"] + np.array(seen["offset"]), rtol=1e-6, atol=1e-6)
