"""What RIPT was measured to do in the table-top scene, in the nightly run; each prints its figures in a line.

Nothing is claimed, and asserted is only what would mean that training breaks something: `docs/ript.md`.
"""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from training_adapters.intervals import Share  # noqa: E402
from training_adapters.ript.config import PRESETS  # noqa: E402
from training_adapters.ript.ledger import sums  # noqa: E402
from training_adapters.ript.program import Program  # noqa: E402
from training_adapters.runs import Run  # noqa: E402

pytestmark = pytest.mark.nightly


def trained(folder: Path, **options: Any) -> tuple[Share, Share, dict[str, int], float]:
    """Held-out success before and after, what was played, and CPU seconds of all of it."""
    torch.set_num_threads(1)
    config = replace(PRESETS["laptop"], save_interval=0, **options)
    began = time.process_time()
    with Program(config, Run(folder, config, out=io.StringIO())) as program:
        before = program.before().success
        program.train()
        after = program.evaluate().success
        counts = sums(program.collector.ledger)
    spent = time.process_time() - began
    told = ", ".join(f"{name} {value}" for name, value in options.items() if name != "start")
    print(f"\nRIPT, {told}: {before} -> {after}, {counts}, {spent:.0f} CPU s")
    assert counts["starts"] == counts["groups"] + counts["skipped"]
    assert counts["groups"] == counts["kept"] + counts["uniform"] + counts["single"]
    assert counts["rollouts"] + counts["malformed"] == 8 * counts["groups"]
    return before, after, counts, spent


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_figures_of_tokens_from_a_weak_start(tmp_path: Path, seed: int) -> None:
    """No claim that it rises; each seed has its own demonstrations, its own start and its own rollouts."""
    before, after, counts, _ = trained(tmp_path / "run", seed=seed)
    assert counts["malformed"] == 0
    assert after.interval[1] >= before.interval[0]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("shuffle", ["advantages", "groups"])
def test_figures_of_the_controls(tmp_path: Path, shuffle: str) -> None:
    """The same start and as many updates. Compared with any others, a rollout is still better or worse than these,
    so that ``groups`` may rise; of ``advantages`` by lot nothing is to be learnt.
    """
    before, after, _, _ = trained(tmp_path / "run", seed=1, shuffle=shuffle)
    if shuffle == "advantages":
        assert not (after.rate > before.rate and before.apart(after))


@pytest.mark.timeout(7200)
def test_figures_of_a_flow(tmp_path: Path) -> None:
    """No claim that it rises: it was seen to fall."""
    trained(tmp_path / "run", seed=1, optimisation="cfg", num_train_steps=20)
