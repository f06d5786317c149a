"""RECAP beside its controls: 2,000 rollouts, 600 held-out starts, three separately trained starts.

`docs/recap.md` has the figures. What is asserted is what held there on every seed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from training_adapters.recap.ablation import ablate, text
from training_adapters.recap.config import RecapConfig
from training_adapters.recap.evidence import weakness
from training_adapters.recap.project import Project
from training_adapters.runs import Run


@pytest.mark.nightly
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_recap_is_above_what_could_explain_it(seed: int, tmp_path: Path) -> None:
    config = RecapConfig(seed=seed, eval_episodes=600)
    project = Project(config, Run(tmp_path / "run", config))
    table = ablate(project, (8, 16))
    print(f"\nseed {seed}:", *text(table), sep="\n")
    assert weakness((project.record("value-finetune", 1).read() or {})["critic"]) is None
    found = {line.name: line.found.success for line in table}
    recap = found["recap, beta 3"]
    for name in ("start", "no_indicator", "shuffled, beta 3"):
        assert recap.rate > found[name].rate
        assert recap.apart(found[name]), name
