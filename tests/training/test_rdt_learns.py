"""What a wrong unit costs a policy in RDT's slots: the same network, episodes and held-out starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from tests.training.rdt_sets import OwnWayBack, datasets
from training_adapters.evaluate import evaluate, table
from training_adapters.rdt.config import PRESETS, RdtConfig
from training_adapters.rdt.program import Program
from training_adapters.runs import Run


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wrong_unit_costs_success(seed: int, tmp_path: Path) -> None:
    physical, controller = datasets(tmp_path, episodes=300, seed=seed)
    options: dict[str, Any] = {**PRESETS["tabletop"], "seed": seed}
    found = {}
    for name, dataset in (("physical", physical), ("controller", controller)):
        config = RdtConfig(**{**options, "dataset": str(dataset)})
        program = Program(config, Run(tmp_path / f"run_{name}", config), verify=name == "physical")
        program.train()
        found[name] = program.evaluate()
        if name == "controller":
            own = OwnWayBack(program.player())
            found["own way back"] = evaluate(own, program._place, episodes=240, horizon=8)
    for name, one in found.items():
        print(f"\nseed {seed}, {name}:", *table(one), sep="\n")
    drop = found["physical"].success, found["controller"].success
    assert drop[0].rate > drop[1].rate
    assert drop[0].apart(drop[1])
    assert found["own way back"].success.apart(drop[1]), "the network is sound; the unit alone was wrong"
