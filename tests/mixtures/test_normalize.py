"""Numbers as each trainer's network is fed them, and the way back for its actions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.mixture_sources import Noisy
from tests.paths import TESTS
from training_adapters.recap import Indicator
from vla_data.errors import UsageError
from vla_data.mixtures import Loader, Mixture, Normalize, Prompt, StateDim, open_mixture
from vla_data.mixtures.transforms import Chain
from vla_data.statistics import RULES
from vla_data.statistics.make import make
from vla_data.statistics.trainers import writer

LIBERO = TESTS / "data/hdf5/libero_spatial0_demo.hdf5"
Mixed = Callable[..., Mixture]


@pytest.fixture(scope="module")
def libero() -> Mixture:
    return open_mixture(
        {"contract": {"state_dim": 10, "action_dim": 9, "chunk": 5}, "datasets": [{"root": str(LIBERO)}]}
    )


def whole(mixture: Mixture) -> dict[str, Any]:
    pairs = [(d, f) for d, one in enumerate(mixture.members) for f in range(one.frames)]
    return mixture.gather(*zip(*pairs, strict=True))


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("widths", [(4,), (3, 4)])
def test_the_way_back_gives_the_batches_own_actions(mixed: Mixed, rule: str, widths: tuple[int, ...]) -> None:
    """But for what a rule clips: those elements come back as its bounds."""
    sources = [Noisy(number=i, width=width, lengths=(40, 30)) for i, width in enumerate(widths)]
    mixture = mixed(sources)
    if len(widths) > 1 and rule.split(".")[0] not in ("openvla", "octo", "rdt"):
        with pytest.raises(UsageError, match="E005"):
            Normalize.of(mixture, rule)
        return
    normalize = Normalize.of(mixture, rule)
    loader = Loader(mixture, batch_size=32, transforms=[normalize])
    plain, made = mixture.batch(2, loader.plan.positions(1)), loader.make(2, 1)
    assert made["action"].dtype == plain["action"].dtype == np.float32
    assert made.keys() == plain.keys()
    back = loader.inverse(made["action"], dataset=made["dataset_index"])
    clips = {"octo.bounds", "openvla.bounds_q99", "gr00t.q99", "gr00t_n1.q99"}
    if rule in clips:
        inside = np.abs(made["action"]) < 1
        assert 0.8 < inside[..., :3].mean() <= 1
        np.testing.assert_allclose(back[inside], plain["action"][inside], atol=2e-6)
    else:
        np.testing.assert_allclose(back, plain["action"], atol=2e-6)
    for key, mask in (("action", "action_mask"), ("observation.state", "observation.state_mask")):
        absent = ~plain[mask]
        assert absent.any()
        assert not np.moveaxis(made[key], -1, 1)[absent].any()  # padding is 0, before and after
    untouched = set(plain) - {"action", "observation.state"}
    assert all(np.array_equal(plain[name], made[name]) for name in untouched)


def test_numbers_are_those_of_the_formulas(libero: Mixture) -> None:
    """openpi's quantiles over chunks with repeated ends, LeRobot's z-score over steps; by NumPy."""
    batch = whole(libero)
    actions, states = (
        batch["action"][..., :7].astype(np.float64),
        batch["observation.state"][:, :8].astype(np.float64),
    )
    made = Chain((Normalize.of(libero, "openpi.quantile"),)).forward(batch)
    for got, values in ((made["action"][..., :7], actions), (made["observation.state"][:, :8], states)):
        low, high = np.quantile(values.reshape(-1, values.shape[-1]), [0.01, 0.99], axis=0)
        np.testing.assert_allclose(got, (values - low) / (high - low + 1e-6) * 2 - 1, rtol=2e-5, atol=1e-5)
    made = Normalize.of(libero, "lerobot.mean_std").forward(batch)
    steps = actions[:, 0]
    np.testing.assert_allclose(
        made["action"][..., :7], (actions - steps.mean(0)) / (steps.std(0) + 1e-8), atol=1e-4
    )


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("openpi.quantile", {"action_horizon": 5}),
        ("openpi.zscore", {"action_horizon": 5}),
        ("openvla.bounds_q99", {"state": "observation.state", "action_mask": (True,) * 6 + (False,)}),
        ("octo.normal", {"state": "observation.state", "flat": True}),
        ("octo.bounds", {"state": "observation.state"}),
        ("lerobot.quantiles", {}),
        ("gr00t.q99", {}),
    ],
)
def test_a_trainers_file_gives_what_the_mixture_does(
    libero: Mixture, tmp_path: Path, rule: str, options: dict[str, Any]
) -> None:
    name = "libero_spatial0_demo.hdf5"
    found = make({name: vd.open_source(LIBERO)}, writer(rule.split(".")[0], **options))
    (tmp_path / found.file).write_text(found.text)
    read = Normalize.of_file(tmp_path / found.file, rule)
    mask = options.get("action_mask", ())
    computed = Normalize.of(libero, rule, action_mask=mask)
    batch = whole(libero)
    a, b = (Loader(libero, batch_size=4, transforms=[one]).transforms.forward(batch) for one in (read, computed))
    for key in ("action", "observation.state"):
        np.testing.assert_allclose(a[key], b[key], atol=2e-5)
    if mask:
        assert np.array_equal(a["action"][..., 6], batch["action"][..., 6])
    unbound = read.inverse(a["action"][0], dataset=name)
    assert np.array_equal(unbound, read.inverse(a["action"][0]))  # there is one dataset
    assert np.array_equal(unbound, Loader(libero, batch_size=4, transforms=[read]).inverse(a["action"][:1])[0])


def test_statistics_are_of_the_mixture_as_it_is_drawn(mixed: Mixed) -> None:
    sources = [Noisy(number=i, lengths=(50,)) for i in range(2)]
    by_weight = mixed(sources, {"chunk": 1}, weights=[1, 3])
    values = [whole(mixed([source], {"chunk": 1}))["action"][:, 0, :4].astype(np.float64) for source in sources]
    entry = Normalize.of(by_weight, "lerobot.mean_std").statistics[""]["action"]
    np.testing.assert_allclose(entry["mean"], values[0].mean(0) / 4 + values[1].mean(0) * 3 / 4)
    entry = Normalize.of(mixed(sources, {"chunk": 1}), "lerobot.mean_std").statistics[""]["action"]
    both = np.concatenate(values)
    np.testing.assert_allclose(entry["q99"], np.quantile(both, 0.99, axis=0))
    never = Normalize.of(mixed(sources, {"chunk": 1}, weights=[1, 0]), "lerobot.mean_std").statistics[""]["action"]
    np.testing.assert_allclose(never["mean"], values[0].mean(0))
    never = mixed(sources, weights=[1, 0])
    assert set(Normalize.of(never, "octo.normal").statistics) == {"s0", "s1"}
    Loader(never, batch_size=4, transforms=[Normalize.of(never, "octo.normal")])


def test_actions_that_count_from_a_state_are_counted_in_whole_chunks(mixed: Mixed) -> None:
    mixture = mixed([Noisy(lengths=(20,))], {"delta": "state"})
    batch = whole(mixture)
    rows = batch["action"][~batch["action_is_pad"]][:, :4]
    entry = Normalize.of(mixture, "lerobot.min_max").statistics[""]["action"]
    np.testing.assert_allclose(entry["min"], rows.min(0), atol=1e-6)
    assert entry["count"] == [len(rows)]


def test_each_row_is_of_its_dataset(mixed: Mixed) -> None:
    mixture = mixed([Noisy(number=i, width=3 + i, lengths=(30,)) for i in range(2)])
    loader = Loader(mixture, batch_size=16, transforms=[Normalize.of(mixture, "openvla.normal")])
    batch = loader.make(0, 0)
    for number, name in enumerate(("s0", "s1")):
        rows = batch["dataset_index"] == number
        one = loader.inverse(batch["action"][rows], dataset=name)
        assert np.array_equal(one, loader.inverse(batch["action"][rows], dataset=number))
        assert np.array_equal(one, loader.inverse(batch["action"], dataset=batch["dataset_index"])[rows])
    with pytest.raises(UsageError, match=r"E001.*several datasets.*s0, s1"):
        loader.inverse(batch["action"])
    for unknown in ("s2", 2, -1):
        with pytest.raises(UsageError, match=r"E001.*no dataset.*s0, s1"):
            loader.inverse(batch["action"], dataset=unknown)
    with pytest.raises(UsageError, match=r"E203.*2 elements"):
        loader.inverse(batch["action"][..., :2], dataset="s1")
    with pytest.raises(UsageError, match="E203"):
        loader.inverse(batch["action"], dataset=[0, 1])


STATS = {"mean": [0.0] * 4, "std": [1.0] * 4}


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        ({"action": STATS}, "E206", "no observation.state"),
        ({"action": {**STATS, "std": [1.0] * 3}, "observation.state": STATS}, "E203", r"lists of \[3, 4\]"),
        (
            {"action": {"mean": [0.0] * 4}, "observation.state": STATS},
            "E206",
            "no std, which lerobot.mean_std needs",
        ),
        ({"action": {**STATS, "mean": ["a"] * 4}, "observation.state": STATS}, "E203", "not a list of numbers"),
        (
            {"action": {k: v[:3] for k, v in STATS.items()}, "observation.state": STATS},
            "E203",
            "action of s0 have 3 elements, the data has 4",
        ),
        ({"actions": STATS, "state": STATS}, "E206", "no statistics of 'action'"),
        (
            {"other": {"action": STATS, "observation.state": STATS}},
            "E206",
            "no statistics of s0; there are of other",
        ),
        ([1, 2], "E206", "no statistics"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(
    mixed: Mixed, tmp_path: Path, document: Any, code: str, message: str
) -> None:
    path = tmp_path / "stats.json"
    path.write_text(json.dumps(document))
    mixture = mixed([Noisy()])
    with pytest.raises(UsageError, match=f"{code}.*{message}") as caught:
        Loader(mixture, batch_size=1, transforms=[Normalize.of_file(path, "lerobot.mean_std")])
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path, libero: Mixture) -> None:
    with pytest.raises(UsageError, match=r"E003.*none.json"):
        Normalize.of_file(tmp_path / "none.json", "lerobot.mean_std")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"E141.*x.json"):
        Normalize.of_file(tmp_path / "x.json", "lerobot.mean_std")
    for call in (Normalize.of_file, lambda path, rule: Normalize.of(libero, rule)):
        with pytest.raises(UsageError, match=r"E001.*lerobot.mean_stt.*did you mean"):
            call(tmp_path / "x.json", "lerobot.mean_stt")
    with pytest.raises(UsageError, match=r"E001.*has no mask"):
        Normalize.of(libero, "openpi.zscore", action_mask="6,-1")
    with pytest.raises(UsageError, match=r"E001.*action_mask has 6 elements, actions of .* 7"):
        Normalize.of(libero, "openvla.normal", action_mask="6")


def test_openvlas_placeholder_is_no_statistic_of_a_state(libero: Mixture, tmp_path: Path) -> None:
    found = make({"a": vd.open_source(LIBERO)}, writer("openvla", flat=True))
    (tmp_path / "s.json").write_text(found.text)
    normalize = Normalize.of_file(tmp_path / "s.json", "openvla.bounds_q99")
    with pytest.raises(UsageError, match=r"E206.*have no observation.state; features ="):
        Loader(libero, batch_size=1, transforms=[normalize])
    actions = Normalize.of_file(tmp_path / "s.json", "openvla.bounds_q99", features=("action",))
    batch = whole(libero)
    made = Loader(libero, batch_size=1, transforms=[actions]).transforms.forward(batch)
    assert np.array_equal(made["observation.state"], batch["observation.state"])
    assert not np.array_equal(made["action"], batch["action"])


def test_at_inference_there_are_observations_alone(libero: Mixture) -> None:
    normalize = Normalize.of(libero, "openpi.quantile")
    batch = whole(libero)
    alone = {"observation.state": batch["observation.state"][:2, :8], "task": ["go", "go"]}
    chain = Chain((normalize, StateDim(14), Prompt(Indicator(target="openpi-pi0"))))
    made = chain.forward(alone)
    wanted = normalize.forward(batch)["observation.state"][:2, :8]
    assert np.array_equal(made["observation.state"][:, :8], wanted)
    assert made["observation.state"].shape == (2, 14)
    assert made["task"] == ["go\nAdvantage: positive"] * 2
    assert chain.inverse(np.zeros((50, 32), np.float32)).shape == (50, 32)
