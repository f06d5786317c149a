"""Batches through PyTorch's ``DataLoader`` and ``tf.data``: the loader's stream, with any workers.

TensorFlow and PyTorch live in environments of their own, in each of which ``scripts/test`` runs this file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mixtures.test_config import OURS, ROLLOUTS
from training_adapters.recap import Indicator
from vla_data.errors import UsageError
from vla_data.mixtures import BatchTransform, Loader, Normalize, Prompt, StateDim, open_mixture
from vla_data.names import unit_hash


def loader(transforms: Sequence[BatchTransform] = (), **rest: Any) -> Loader:
    return Loader(open_mixture({**OURS, **rest}), batch_size=16, transforms=transforms)


@dataclass(frozen=True)
class Marked(BatchTransform):
    """Says of each row whether a coin fell on its head in this epoch."""

    def forward(self, batch: Any, *, epoch: int = 0) -> dict[str, Any]:
        numbers = zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True)
        heads = [unit_hash(f"{e} {f} {epoch}", salt="coin") < 0.5 for e, f in numbers]
        return {
            **batch,
            "heads": np.asarray(heads),
            "task": [f"{task} {h}" for task, h in zip(batch["task"], heads, strict=True)],
        }


def transformed(root: Path, **rest: Any) -> Loader:
    """A loader with everything: an annotation, and transforms that change shapes, numbers and texts."""
    entry = {"root": str(root), "annotation": "v1", "state": ["action"], "episodes": [1, 2]}
    contract = {**OURS["contract"], "state_dim": 9, "extras": ["next.success"]}
    mixture = open_mixture({"contract": contract, "datasets": [entry], "order": "shuffle"})
    indicator = Indicator(target="opentau", dropout=0.4)
    steps = (Normalize.of(mixture, "openpi.quantile"), StateDim(11, "mean"), Prompt(indicator), Marked())
    return Loader(mixture, batch_size=8, transforms=steps, **rest)


def uneven() -> list[Loader]:
    """Two ranks of 105 frames: the first has 26, 26 and 1, the second no third batch."""
    mixture = open_mixture({**OURS, "order": "shuffle"})
    ranks = [Loader(mixture, batch_size=26, rank=r, world_size=2, last="short") for r in range(2)]
    assert [len(one) for one in ranks] == [3, 2]
    return ranks


def equal(batch: dict[str, Any], other: dict[str, Any]) -> bool:
    return batch.keys() == other.keys() and all(np.array_equal(np.asarray(other[k]), v) for k, v in batch.items())


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_batches_are_the_stream_with_any_number_of_workers(workers: int) -> None:
    torch = pytest.importorskip("torch")
    from training_adapters.torch_batches import TorchLoader

    plain = loader()
    wanted = [*plain, *plain]
    one = TorchLoader(loader(), workers=workers)
    got = []
    for batch in one:
        got.append(batch)
        if len(got) == 2:
            break
    state = json.loads(json.dumps(one.state_dict()))
    again = TorchLoader(loader(), workers=workers)
    again.load_state_dict(state)
    got += [*again, *again]
    assert len(got) == len(wanted)
    assert all(equal(a, b) for a, b in zip(wanted, got, strict=True))
    assert got[0]["action"].dtype == torch.float32
    assert got[0]["timestamp"].dtype == torch.float64


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_batches_are_transformed_and_annotated(annotated: Path, workers: int) -> None:
    torch = pytest.importorskip("torch")
    from training_adapters.torch_batches import TorchLoader

    epochs = 1 if workers else 2  # each starts workers anew
    plain = transformed(annotated)
    wanted = [batch for _ in range(epochs) for batch in plain]
    one = TorchLoader(transformed(annotated), workers=workers)
    got = [batch for _ in range(epochs) for batch in one]
    assert len(got) == len(wanted) > 2
    assert all(equal(a, b) for a, b in zip(wanted, got, strict=True))
    assert got[0]["observation.state"].shape == (8, 11)
    assert (got[0]["advantage"].dtype, got[0]["positive"].dtype) == (torch.float64, torch.bool)
    assert len({text for batch in got for text in batch["task"]}) > 3
    raw = plain.mixture.batch(0, plain.plan.positions(0))["action"]
    predicted = got[0]["action"].requires_grad_()
    back = one.inverse(predicted, dataset=got[0]["dataset_index"])
    np.testing.assert_allclose(back.numpy(), raw, atol=1e-6)
    half = one.inverse(predicted.bfloat16())
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half.numpy(), raw, atol=0.02)


SCRIPT = """
import sys
from training_adapters.torch_batches import TorchLoader
from vla_data.mixtures import BatchTransform, Loader, open_mixture

class Mine(BatchTransform):
    pass

print("began", flush=True)
own = (Mine(),) if sys.argv[2] == "own" else ()
loader = Loader(open_mixture(sys.argv[1]), batch_size=16, transforms=own)
for context in ("spawn", "forkserver"):
    print(context, len(list(TorchLoader(loader, workers=1, context=context))), flush=True)
"""


@pytest.mark.parametrize("own", [False, True])
def test_torch_batches_are_made_without_a_guard(tmp_path: Path, own: bool) -> None:
    """A script that has none is not run again by the workers; what only it defines is refused in one line."""
    pytest.importorskip("torch")
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "m.json").write_text(json.dumps(OURS))
    run = [sys.executable, "train.py", "m.json", "own" if own else "none"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if own:
        assert done.stdout == "began\n"
        assert "E001 usage: workers can't import what transform Mine needs" in done.stderr.splitlines()[-1]
        assert "module of its own" in done.stderr.splitlines()[-1]
    else:
        assert (done.returncode, done.stdout) == (0, "began\nspawn 6\nforkserver 6\n"), done.stderr


def test_torch_batches_are_of_known_contexts() -> None:
    pytest.importorskip("torch")
    from training_adapters.torch_batches import TorchLoader

    with pytest.raises(UsageError, match=r"E001.*context is 'spwan'.*did you mean 'spawn'"):
        TorchLoader(loader(), context="spwan")


def test_torch_batches_are_complete_for_ranks_with_unequal_shares() -> None:
    pytest.importorskip("torch")
    from training_adapters.torch_batches import TorchLoader

    ranks = [TorchLoader(one) for one in uneven()]
    for one, plain in zip(ranks, uneven(), strict=True):
        for _ in range(2):
            assert all(equal(a, b) for a, b in zip(plain, one, strict=True))
    assert [one.state_dict()["epoch"] for one in ranks] == [2, 2]
    assert ranks[0].state_dict() == ranks[1].state_dict()


@pytest.mark.parametrize("workers", [0, 2])
def test_tf_data_is_transformed_and_annotated(annotated: Path, workers: int) -> None:
    pytest.importorskip("tensorflow")
    from training_adapters.tf_batches import dataset

    plain = transformed(annotated)
    wanted = [*plain, *plain]
    got = list(dataset(transformed(annotated, workers=workers)).repeat(2).as_numpy_iterator())
    assert len(got) == len(wanted) > 4
    same = ("advantage", "value", "return", "positive", "heads", "next.success", "observation.state_mask")
    for mine, theirs in zip(wanted, got, strict=True):
        for name in (*same, "episode_index", "episode_position", "frame_index", "frame_position"):
            assert np.array_equal(theirs[name], mine[name]), name
        assert np.array_equal(theirs["observation"]["proprio"][:, 0], mine["observation.state"])
        assert np.array_equal(theirs["action"], mine["action"])
        assert [text.decode() for text in theirs["task"]["language_instruction"]] == mine["task"]


@pytest.mark.parametrize("history", [None, 2])
def test_tf_data_has_the_stream_by_the_names_of_rlds(history: int | None) -> None:
    tf = pytest.importorskip("tensorflow")
    from training_adapters.tf_batches import dataset

    contract = {**OURS["contract"], "history": history, "state_dim": 7}
    entries = [{"root": str(ROLLOUTS), "state": ["action"], "name": "pick"}]
    changed = {"contract": contract, "datasets": entries}
    wanted = list(loader(**changed))
    data = dataset(loader(**changed))
    assert data.element_spec["observation"]["image_primary"] == tf.TensorSpec(
        (None, history or 1, 32, 32, 3), tf.uint8
    )
    got = list(data.as_numpy_iterator())
    assert len(got) == len(wanted) == 6
    for mine, theirs in zip(wanted, got, strict=True):
        image = mine["observation.images.primary"]
        assert np.array_equal(theirs["observation"]["image_primary"], image if history else image[:, None])
        assert np.array_equal(theirs["action"], mine["action"])
        assert np.array_equal(theirs["action_pad_mask"], ~mine["action_is_pad"])
        pads = mine["observation.state_is_pad"]
        assert np.array_equal(theirs["observation"]["timestep_pad_mask"], ~(pads if history else pads[:, None]))
        assert [text.decode() for text in theirs["task"]["language_instruction"]] == mine["task"]
        assert set(theirs["dataset_name"]) == {b"pick"}


def rows_of(batch: dict[str, Any]) -> list[tuple[int, ...]]:
    """What tells frames of the rollouts apart in a batch of RLDS's names, and in one of ours."""
    frame = batch["observation"]["timestep"] if "observation" in batch else batch["frame_index"]
    actions = np.asarray(batch["action"]).view(np.uint32).reshape(len(frame), -1)
    return [(*action, int(i)) for action, i in zip(actions.tolist(), frame, strict=True)]


@pytest.mark.parametrize("ahead", [0, 1, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_tf_data_goes_on_where_it_was_left(ahead: int, workers: int) -> None:
    """However an iteration stops, the next begins with the batch after it, and the state is that of the batch."""
    pytest.importorskip("tensorflow")
    from training_adapters.tf_batches import dataset

    plain = loader(order="shuffle")
    wanted = [rows_of(batch) for _ in range(5) for batch in plain]
    one = Loader(open_mixture({**OURS, "order": "shuffle"}), batch_size=16, workers=workers)
    data = dataset(one, ahead=ahead)
    got = []
    for batch in data.as_numpy_iterator():
        got.append(rows_of(batch))
        assert (one.epoch, one.number) == divmod(len(got), 6)
        if len(got) == 2:
            break
    state = json.loads(json.dumps(one.state_dict()))
    got += [rows_of(batch) for batch in data.take(1).as_numpy_iterator()]
    assert (one.epoch, one.number) == (0, 3)
    got += [rows_of(batch) for batch in data.as_numpy_iterator()]  # the rest of the epoch
    assert (len(got), one.epoch, one.number) == (6, 1, 0)
    got += [rows_of(batch) for batch in data.as_numpy_iterator()]
    assert len(got) == 12
    got += [rows_of(batch) for batch in data.repeat().take(18).as_numpy_iterator()]
    assert got == wanted
    one.load_state_dict(state)
    assert [rows_of(batch) for batch in data.repeat(2).as_numpy_iterator()] == wanted[2:12]


def test_tf_data_of_ranks_with_unequal_shares() -> None:
    pytest.importorskip("tensorflow")
    from training_adapters.tf_batches import dataset

    wanted = [[rows_of(batch) for _ in range(3) for batch in one] for one in uneven()]
    ranks = uneven()
    data = [dataset(one) for one in ranks]
    got = [[rows_of(batch) for batch in one.take(2).as_numpy_iterator()] for one in data]
    state = ranks[1].state_dict()  # the second has nothing left, and is not further than the first
    assert state == ranks[0].state_dict()
    assert (state["epoch"], state["batch"]) == (0, 2)
    again = uneven()
    for rank, one, head in zip(range(2), again, got, strict=True):
        one.load_state_dict(state)
        rest = len(wanted[rank]) - 2
        head += [rows_of(batch) for batch in dataset(one).repeat().take(rest).as_numpy_iterator()]
    assert got == wanted
    ends = uneven()
    for one in ends:
        assert len(list(dataset(one))) == len(one)
    assert ends[0].state_dict() == ends[1].state_dict()
    assert (ends[0].epoch, ends[0].number) == (1, 0)
