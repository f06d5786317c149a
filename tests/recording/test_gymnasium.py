"""gymnasium's own vector environments: the example records what each gives when it is stepped alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.paths import ROOT
from tests.recording.test_features import read

gymnasium = pytest.importorskip("gymnasium", reason="of the extra `train`")

ENV = "Pendulum-v1"  # episodes of 200 steps, cut by a limit


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("collect_gymnasium", ROOT / "examples/collect_gymnasium.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_the_example_records_what_each_environment_gives_alone(mode: str, tmp_path: Path) -> None:
    options = {
        "env": ENV,
        "environments": 2,
        "steps": 410,
        "seed": 3,
        "fps": 20,
        "autoreset": mode,
        "task": "swing",
    }
    example().collect(str(tmp_path), **options)
    alone = [gymnasium.make(ENV) for _ in range(2)]
    seen = [env.reset(seed=3 + i)[0] for i, env in enumerate(alone)]
    episodes = read(tmp_path)
    assert [len(episode) for episode in episodes] == [200] * 4
    for episode in episodes:
        i = episode.meta["episode_metadata"]["environment"]
        for t, action in enumerate(episode.arrays["action"]):
            np.testing.assert_array_equal(episode.arrays["observation.state"][t], seen[i])
            seen[i], reward, terminated, truncated, _ = alone[i].step(action)
            # The recorded action is what the environment got: the same, and so are the outcomes.
            assert episode.arrays["next.reward"][t] == reward
            assert episode.arrays["next.terminated"][t] == terminated
            assert episode.arrays["next.truncated"][t] == truncated
        last = episode.final["observation.state"]
        assert isinstance(last, np.ndarray)
        np.testing.assert_array_equal(last[0], seen[i])
        seen[i], _ = alone[i].reset()
