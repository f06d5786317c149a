"""Each trainer's file: its keys, its nesting, and the numbers that its own code gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.rdt.stats import rdt_std, trimmed
from tests.paths import SHARED, TESTS
from vla_data.core import Array, EpisodeRef
from vla_data.errors import DataError, RefusedError, UsageError
from vla_data.formats import trainers
from vla_data.selection.subset import Selection
from vla_data.statistics import VectorStats, vector_stats
from vla_data.statistics.chunks import action_chunks, parse_mask
from vla_data.statistics.collect import collect
from vla_data.statistics.columns import read_columns
from vla_data.statistics.make import dataset_name, make
from vla_data.statistics.trainers import writer

ROLLOUTS = TESTS / "data/rollouts"
GROOT = SHARED / "lerobot_v20_groot"


class Memory:
    """A source of arrays."""

    def __init__(self, episodes: Sequence[dict[str, Array]]) -> None:
        self.given = episodes

    def episodes(self) -> list[EpisodeRef]:
        return [EpisodeRef(str(i), 1) for i in range(len(self.given))]

    def read(self, ref: EpisodeRef) -> vd.Episode:
        arrays = self.given[int(ref.id)]
        length = len(next(iter(arrays.values())))
        return vd.Episode(id=ref.id, arrays=arrays, frames={}, task="", index=np.arange(length))

    def fingerprint(self, ref: EpisodeRef) -> str:
        return ref.id

    def schema(self, episode: vd.Episode) -> vd.Schema:
        return vd.Schema(features={}, fps=1)


def episodes(*lengths: int, dtype: Any = np.float32) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    return [
        {
            "action": rng.normal(size=(n, 7)).astype(dtype),
            "observation.state": rng.normal(size=(n, 8)).astype(dtype),
            "next.done": np.arange(n) == n - 1,
        }
        for n in lengths
    ]


def all_of(given: Sequence[dict[str, Array]], name: str) -> Any:
    return np.concatenate([episode[name] for episode in given]).astype(np.float64)


def made(trainer: str, given: Sequence[dict[str, Array]], **options: Any) -> Any:
    return make({"set": Memory(given)}, writer(trainer, **options)).document


def same(ours: Any, theirs: Any) -> bool:
    return bool(np.allclose(ours, theirs, rtol=0, atol=1e-12))


def test_table_is_sorted_and_every_writer_can_be_made() -> None:
    for trainer in trainers("stats"):
        writer(trainer, **({"action_horizon": 1} if trainer == "openpi" else {}))


def test_an_option_of_another_trainer_is_refused() -> None:
    with pytest.raises(UsageError, match="--action-mask does not work with rdt's statistics"):
        writer("rdt", action_mask=(True,))


@pytest.mark.parametrize(("trainer", "low", "high"), [("openvla", "q01", "q99"), ("octo", "p01", "p99")])
def test_openvla_and_octo(trainer: str, low: str, high: str) -> None:
    given = episodes(30, 50)
    entry = made(trainer, given, state="observation.state", action_mask=parse_mask("6,-1"))["set"]
    assert entry["num_transitions"] == 80
    assert entry["num_trajectories"] == 2
    assert entry["action"].pop("mask") == [True] * 6 + [False]
    for block, name in (("action", "action"), ("proprio", "observation.state")):
        data = all_of(given, name)
        assert entry[block][low] == np.quantile(data, 0.01, axis=0).tolist()
        assert entry[block][high] == np.quantile(data, 0.99, axis=0).tolist()
        for key in ("mean", "std", "max", "min"):
            assert same(entry[block][key], getattr(data, key)(axis=0))
        assert set(entry[block]) == {"mean", "std", "max", "min", low, high}


def test_openvla_without_a_state_has_zeros_and_octo_has_none() -> None:
    given = episodes(30)
    assert made("openvla", given)["set"]["proprio"]["q99"] == [0.0] * 7
    assert list(made("octo", given, flat=True)) == ["action", "num_transitions", "num_trajectories"]


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match="the mask has 2 elements, an action 7"):
        made("octo", episodes(30), action_mask=(True, False))


@pytest.mark.parametrize("horizon", [1, 4, 40])
@pytest.mark.parametrize("mask", [(), (True, True, False, True)])
def test_openpi_counts_chunks_with_the_last_action_repeated(horizon: int, mask: tuple[bool, ...]) -> None:
    given = episodes(9, 30)
    document = made("openpi", given, action_horizon=horizon, delta_actions=mask)
    rows = []
    for episode in given:
        actions, states = episode["action"], episode["observation.state"]
        for t in range(len(actions)):
            for k in range(horizon):
                row = actions[min(t + k, len(actions) - 1)].copy()
                row[: len(mask)] -= np.where(mask, states[t, : len(mask)], 0)
                rows.append(row)
    data = np.stack(rows).astype(np.float64)
    assert list(document) == ["norm_stats"]
    assert {key: list(entry) for key, entry in document["norm_stats"].items()} == {
        "state": ["mean", "std", "q01", "q99"],
        "actions": ["mean", "std", "q01", "q99"],
    }
    actions = document["norm_stats"]["actions"]
    assert actions["q01"] == np.quantile(data, 0.01, axis=0).tolist()
    assert actions["q99"] == np.quantile(data, 0.99, axis=0).tolist()
    assert same(actions["mean"], data.mean(axis=0))
    assert same(actions["std"], data.std(axis=0))
    state = all_of(given, "observation.state")
    assert document["norm_stats"]["state"]["q99"] == np.quantile(state, 0.99, axis=0).tolist()


def test_chunks_without_padding_hold_each_step_that_is_there() -> None:
    actions = np.arange(4.0)[:, None]
    assert action_chunks(actions, 3)[..., 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 3], [3, 3, 3]]
    assert action_chunks(actions, 3, padding="none").ravel().tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 3]


def test_delta_chunks_leave_their_arguments_alone() -> None:
    actions, states = np.ones((3, 2)), np.ones((3, 2))
    assert not action_chunks(actions, 1, states=states, delta=(True, True)).any()
    assert actions.all()
    assert states.all()


@pytest.mark.parametrize("text", ["", "6,0", "six", "5000", "1,,1"])
def test_senseless_masks_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a mask like"):
        parse_mask(text)


def test_lerobot_has_every_feature_of_numbers() -> None:
    given = episodes(30, 50)
    document = made("lerobot", given, images={"observation.images.top": {"min": [[[0.0]]]}})
    assert list(document) == ["action", "next.done", "observation.images.top", "observation.state"]
    for name in ("action", "next.done", "observation.state"):
        theirs = vector_stats(all_of(given, name))
        assert list(document[name]) == list(theirs)
        assert all(same(document[name][key], theirs[key]) for key in theirs)


def test_gr00t_has_features_of_floats() -> None:
    given = episodes(30)
    document = made("gr00t", given)
    assert list(document) == ["action", "observation.state"]
    assert set(document["action"]) == {"mean", "std", "min", "max", "q01", "q99"}
    assert document["action"]["q99"] == np.quantile(all_of(given, "action"), 0.99, axis=0).tolist()


def test_gr00t_relative_statistics_are_of_whole_chunks_by_step() -> None:
    given = episodes(6, 3, 20)
    groups = {"arm": ((1, 4), (0, 3)), "hand": ((7, 8), (6, 7))}
    document = made("gr00t", given, relative=("arm", "hand"), action_horizon=4, groups=groups)
    chunks = [
        episode["action"][t : t + 4, 0:3] - episode["observation.state"][t, 1:4]
        for episode in given
        for t in range(len(episode["action"]) - 3)
    ]
    data = np.stack(chunks).astype(np.float64)
    assert np.array_equal(document["arm"]["q01"], np.quantile(data, 0.01, axis=0))
    assert np.array_equal(document["arm"]["max"], data.max(axis=0))
    assert same(document["arm"]["std"], data.std(axis=0))
    assert np.shape(document["hand"]["mean"]) == (4, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0, 1, 1], 0.70710678), ([1, 2, 3], 0.81649658), ([0, 0, 0], 0), ([1e-8, 1], 0.5**0.5)],
)
def test_rdts_std_is_inflated_by_zeros(values: list[float], expected: float) -> None:
    assert rdt_std(VectorStats.of(np.array(values, dtype=np.float64)))[0] == pytest.approx(expected, abs=1e-8)


def test_rdts_std_is_what_its_formula_gives() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.random((500, 4)) < 0.3, rng.choice([0.0, 1e-8, -5e-9], (500, 4)), rng.normal(size=(500, 4)))
    z, n = np.where(np.abs(x) <= 1e-8, 0, x), len(x)
    nonzero = (np.abs(x) > 1e-8).sum(axis=0)
    theirs = np.sqrt((z**2).sum(axis=0) / nonzero - (z.sum(axis=0) / n) ** 2 * n / nonzero)
    stats = VectorStats.of(x[:100]).update(x[100:])
    assert np.abs(rdt_std(stats) - theirs).max() < 1e-14


def test_rdt_has_128_slots() -> None:
    given = episodes(30)
    slots = tuple(range(30, 38))
    entry = made("rdt", given, slots=slots)["set"]
    assert list(entry) == ["dataset_name", "state_mean", "state_std", "state_min", "state_max"]
    assert entry["dataset_name"] == "set"
    assert len(entry["state_mean"]) == 128
    assert np.flatnonzero(entry["state_std"]).tolist() == list(slots)
    true = made("rdt", given, slots=slots, std="true")["set"]["state_std"]
    assert same(np.array(true)[30:38], all_of(given, "observation.state").std(axis=0))


def test_rdt_takes_a_state_of_128_as_it_is_and_no_other_without_slots() -> None:
    wide = [{"observation.state": np.ones((5, 128))}]
    assert made("rdt", wide)["set"]["state_mean"] == [1.0] * 128
    with pytest.raises(RefusedError, match="no slots are given"):
        made("rdt", episodes(5))


def test_rdt_trims_as_its_dataset_does() -> None:
    states = np.zeros((200, 2))
    states[50:, 1] = 0.01  # not more than 0.01
    states[60:, 0] = -0.011
    assert len(trimmed(states)) == 200 - 59
    for bad in (states[:127], np.zeros((200, 2))):
        with pytest.raises(DataError):
            trimmed(bad)


def test_datasets_get_an_entry_each_or_are_taken_together_or_mixed() -> None:
    a, b = episodes(20), episodes(20, 60)[1:]
    sources = {"a": Memory(a), "b": Memory(b)}
    keyed = make(sources, writer("openvla")).document
    assert list(keyed) == ["a", "b"]
    pooled = make(sources, writer("openpi", action_horizon=1)).document["norm_stats"]["state"]
    data = all_of([*a, *b], "observation.state")
    assert pooled["q01"] == np.quantile(data, 0.01, axis=0).tolist()
    mixed = make(sources, writer("openvla"), weights=[1, 3], name="mix").document["mix"]["action"]
    means = [all_of(part, "action").mean(axis=0) for part in (a, b)]
    assert same(mixed["mean"], 0.25 * means[0] + 0.75 * means[1])


def test_mixtures_that_make_no_sense_are_refused() -> None:
    sources = {"a": Memory(episodes(20)), "b": Memory([{"action": np.zeros((5, 3))}])}
    with pytest.raises(UsageError, match="not have the same features"):
        make(sources, writer("octo"), weights=[1, 1])
    for weights in ([1], [1, 0], [1, float("nan")]):
        with pytest.raises(UsageError, match="weights"):
            make({"a": Memory(episodes(20)), "b": Memory(episodes(20))}, writer("octo"), weights=weights)
    with pytest.raises(UsageError, match="not of a mixture"):
        make({"a": Memory([{"observation.state": np.ones((5, 128))}])}, writer("rdt"), weights=[1])


def test_bad_episodes_are_left_out_and_named() -> None:
    given = episodes(10, 10, 10, 10)
    given[1]["action"][3, 2] = np.nan
    given[2]["action"] = given[2]["action"][:, :6]
    del given[3]["action"]
    found = make({"set": Memory(given)}, writer("octo"))
    summary = found.datasets["set"]
    assert [(left.id, left.code) for left in summary.left_out] == [("1", "E201"), ("2", "E203"), ("3", "E206")]
    assert (summary.episodes, summary.steps, found.complete) == (1, 10, False)


def test_what_hurts_is_told() -> None:
    rng = np.random.default_rng(0)
    action = rng.normal(size=(1000, 4))
    action[:, 1] = 0.7
    action[:, 2] = np.arange(1000) == 500
    action[0, 3] = 100
    found = make({"set": Memory([{"action": action}])}, writer("openvla", action_mask=(True, False, True, True)))
    assert {(f.code, f.elements) for f in found.findings} == {
        ("constant", (1,)),
        ("equal_quantiles", (2,)),
        ("far_outside", (3,)),
        ("masked_constant", (1,)),
    }
    share = found.to_json()["coverage"]["set"]["action"]["outside_quantiles"]
    assert share == [0.02, 0.0, 0.001, 0.02]
    few = make({"set": Memory(episodes(20))}, writer("octo")).findings
    assert {f.code for f in few} == {"few"}


def test_values_that_do_not_fit_into_memory_go_to_disk_and_stay_exact(tmp_path: Path) -> None:
    given = [{"action": np.random.default_rng(i).normal(size=(100_000, 7))} for i in range(8)]
    summary = collect(Memory(given), memory=20 << 20, scratch=tmp_path)
    stats = summary.exact("action")
    assert stats.nbytes < 20 << 20
    data = all_of(given, "action")
    assert np.array_equal(stats.quantiles([0.01, 0.5, 0.99]), np.quantile(data, [0.01, 0.5, 0.99], axis=0))
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_called_by_its_folder(tmp_path: Path) -> None:
    assert dataset_name(tmp_path / "bridge") == "bridge"
    assert dataset_name(tmp_path / "bridge/1.0.0") == "bridge"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real rollouts, curated: one fails and is not published, steps of the others are pruned and cut."""
    target = tmp_path_factory.mktemp("sets") / "aligned"
    steps = vd.recipes.ppo_sft(min_success_steps=6, pos_thresh=0.01, rot_thresh=0.06)
    vd.run(vd.open_source(ROLLOUTS), steps, vd.open_sink(target))
    return target


def test_statistics_cover_what_was_published_and_nothing_else(published: Path) -> None:
    raw, kept = {}, []
    source = vd.open_source(ROLLOUTS)
    for ref in source.episodes():
        raw[ref.id] = source.read(ref).arrays["action"]
    for record in vd.open_ledger(published).records:
        for span in record.spans:
            if span.bucket == "kept":
                kept.append(raw[record.id][span.start : span.stop])
    data = np.concatenate(kept)
    assert len(data) < sum(map(len, raw.values()))
    entry = make({"set": vd.open_source(published)}, writer("openvla")).document["set"]
    assert entry["num_transitions"] == len(data)
    assert entry["action"]["q01"] == np.quantile(data.astype(np.float64), 0.01, axis=0).tolist()
    assert entry["action"]["max"] == data.max(axis=0).tolist()


def test_lerobot_columns_are_what_the_source_reads(published: Path) -> None:
    source = vd.open_source(published)
    refs = source.episodes()
    for chosen in (source, Selection(source, (len(refs) - 1,))):
        found = dict(read_columns(chosen, None))
        assert list(found) == [ref.id for ref in chosen.episodes()]
        for ref in chosen.episodes():
            columns = found[ref.id]
            assert not isinstance(columns, DataError)
            for name, array in chosen.read(ref).arrays.items():
                assert columns[name].dtype == array.dtype
                assert np.array_equal(columns[name].reshape(array.shape), array)


def test_our_own_stats_json_is_found_again(published: Path) -> None:
    ours = make({"set": vd.open_source(published)}, writer("lerobot")).document
    stored = json.loads((published / "meta/stats.json").read_bytes())
    assert set(stored) - set(ours) == {name for name in stored if "images" in name}
    for name, entry in ours.items():
        for key, value in entry.items():
            assert np.allclose(value, stored[name][key], rtol=1e-9, atol=1e-9), (name, key)


def test_no_image_is_read(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("an image was looked at")

    for name in ("header", "decode"):
        monkeypatch.setattr(f"vla_data.media.images.{name}", never)
    make({"set": vd.open_source(published)}, writer("lerobot"))


@pytest.mark.skipif(not GROOT.exists(), reason="needs the shared data")
def test_v2_datasets_are_read_by_column() -> None:
    source = vd.open_source(GROOT)
    arrays = [source.read(ref).arrays["action"] for ref in source.episodes()]
    document = make({"set": source}, writer("gr00t")).document
    assert document["action"]["q99"] == np.quantile(np.concatenate(arrays), 0.99, axis=0).tolist()
