"""Batches: what is in them, whatever the datasets look like."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

import vla_data as vd
from tests.mixture_sources import Numbered
from tests.paths import ROOT
from vla_data.actions import Convention, convert, preset
from vla_data.errors import DataError, UsageError
from vla_data.media.images import decode
from vla_data.media.located import Located
from vla_data.mixtures import Contract, Loader, Mixture, member, open_mixture
from vla_data.mixtures.times import places, ratio_of
from vla_data.statistics.chunks import action_chunks
from vla_data.steps.resample import Resample

DATA = ROOT / "tests/data"
ROLLOUTS = DATA / "rollouts"
LIBERO = DATA / "hdf5/libero_spatial0_demo.hdf5"
Opener = Callable[..., Mixture]

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """``opened(sources, contract, entries, **rest)``: a mixture of sources in memory."""

    def make(sources: list[Numbered], contract: Any = None, entries: Any = None, **rest: Any) -> Mixture:
        by_root = {f"s{i}": source for i, source in enumerate(sources)}
        monkeypatch.setattr(member, "open_source", lambda root, **_: by_root[root])
        datasets = [{"root": root, **(entries[i] if entries else {})} for i, root in enumerate(by_root)]
        form = {"cameras": ["front"], "state_dim": 3, **(contract or {})}
        return open_mixture({"contract": form, "datasets": datasets, **rest})

    return make


# -- rows and times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "freq", "rows"),
    [(10, 20, [0, 0, 1, 2, 2, 2, 3, 4, 4, 4]), (30, 20, [0, 2, 3, 4, 6, 8, 9, 10, 12, 14])],
)
def test_rows_at_another_rate_are_opentaus(fps: int, freq: int, rows: list[int]) -> None:
    """The worked numbers of ``specs/recap_ript_ppo.md`` A.5: nearest, halves to the even row."""
    at = places(np.asarray([0]), np.arange(10), length=100, ratio=ratio_of(fps, freq))
    assert at.nearest[0].tolist() == rows
    assert rows == np.round(np.arange(10) * fps / freq).astype(int).tolist()


@settings(deadline=None)
@given(
    length=st.integers(1, 30),
    start=st.integers(0, 29),
    fps=st.sampled_from([5, 10, 15, 20, 30, 50, 29.97]),
    freq=st.sampled_from([None, 3, 5, 10, 20, 30, 60]),
    steps=st.lists(st.integers(-20, 40), min_size=1, max_size=8),
)
def test_rows_are_those_of_exact_arithmetic(length, start, fps, freq, steps) -> None:
    start %= length
    ratio = ratio_of(fps, freq)
    at = places(np.asarray([start]), np.asarray(steps), length=length, ratio=ratio)
    values = np.arange(length, dtype=np.float64) * 2
    for k, step in enumerate(steps):
        soft = Fraction(start) + step * ratio
        inside = min(max(soft, Fraction(0)), Fraction(length - 1))
        assert at.is_pad[0, k] == (soft != inside)
        assert at.nearest[0, k] == round(inside)  # Python rounds halves of fractions to even
        assert at.take(values, "linear")[0, k] == pytest.approx(float(2 * inside), abs=1e-12)
        assert 0 <= at.nearest[0, k] < length


def test_rows_are_exact_beyond_float32() -> None:
    at = places(np.asarray([2**24 + 1]), np.asarray([0, 1]), length=2**25, ratio=Fraction(1))
    assert at.nearest.tolist() == [[2**24 + 1, 2**24 + 2]]


def test_only_floating_point_numbers_are_mixed() -> None:
    at = places(np.asarray([0]), np.asarray([1]), length=3, ratio=Fraction(1, 2))
    assert at.take(np.asarray([0.0, 1.0, 2.0]), "linear").tolist() == [[0.5]]
    assert at.take(np.asarray([0, 1, 2]), "linear").tolist() == [[0]]
    assert at.take(np.asarray([True, False, False]), "linear").tolist() == [[True]]


# -- what is in a batch ---------------------------------------------------------------------------------


@shared
@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    chunk=st.integers(1, 12),
    history=st.none() | st.integers(1, 5),
    interval=st.integers(1, 3),
    freq=st.sampled_from([None, 5, 10, 20, 7]),
    image=st.sampled_from(["nearest", "linear"]),
    epoch=st.integers(0, 5),
)
def test_no_frame_of_another_episode_and_masks_say_what_is_padding(
    opened, lengths, chunk, history, interval, freq, image, epoch
) -> None:
    """By brute force, from numbers that say of which dataset, episode and row they are."""
    sources = [Numbered(number=i, lengths=tuple(one)) for i, one in enumerate(lengths)]
    mixture = opened(
        sources,
        {
            "chunk": chunk,
            "history": history,
            "history_interval": interval,
            "action_freq": freq,
            "resample": "rows",
            "image_resample_strategy": image,
            "action_dim": 5,
            "state_dim": 4,
        },
    )
    batch = mixture.batch(epoch, np.arange(24))
    ratio = Fraction(10, freq) if freq else Fraction(1)
    for b in range(24):
        number, episode, row = (int(batch[k][b]) for k in ("dataset_index", "episode_index", "frame_index"))
        last = lengths[number][episode] - 1
        assert batch["task"][b] == f"task {number} {episode}"
        assert batch["timestamp"][b] == row / 10
        assert batch["action_mask"][b].tolist() == [True] * 3 + [False] * 2
        assert batch["observation.state_mask"][b].tolist() == [True] * 3 + [False]
        for k in range(chunk):
            soft = row + k * ratio
            assert batch["action_is_pad"][b, k] == (soft > last)
            assert batch["action"][b, k].tolist() == [number, episode, round(min(soft, Fraction(last))), 0, 0]
        for h in range(history or 1):
            soft = row - ((history or 1) - 1 - h) * interval * ratio
            inside = max(soft, Fraction(0))
            at = (b,) if history is None else (b, h)
            assert batch["observation.state_is_pad"][at] == (soft < 0)
            assert batch["observation.images.front_is_pad"][at] == (soft < 0)
            assert batch["observation.state"][at].tolist() == [number, episode, round(inside), 0]
            pixels = np.unique(batch["observation.images.front"][at].reshape(-1, 3), axis=0)
            shown = inside if image == "linear" else round(inside)
            assert len(pixels) == 1
            assert pixels[0, :2].tolist() == [number, episode]
            assert abs(int(pixels[0, 2]) - shown) <= Fraction(1, 2 if image == "linear" else 10**9)


def test_dtypes(opened) -> None:
    batch = opened([Numbered()]).batch(0, np.arange(2))
    kinds = {name: str(value.dtype) for name, value in batch.items() if name != "task"}
    assert kinds == {
        "observation.images.front": "uint8",
        "observation.images.front_is_pad": "bool",
        "observation.state": "float32",
        "observation.state_is_pad": "bool",
        "observation.state_mask": "bool",
        "action": "float32",
        "action_is_pad": "bool",
        "action_mask": "bool",
        "timestamp": "float64",
        "dataset_index": "int64",
        "episode_index": "int64",
        "episode_position": "int64",
        "frame_index": "int64",
        "frame_position": "int64",
    }


def test_a_camera_that_a_dataset_lacks_is_black_and_masked(opened) -> None:
    both = Numbered(number=7, cameras=("front", "wrist"))
    one = Numbered(number=8, cameras=("image",))
    mixture = opened(
        [both, one],
        {"cameras": ["front", "wrist"]},
        [{}, {"cameras": {"front": "observation.images.image", "wrist": ""}}],
    )
    batch = mixture.gather([0, 1], [0, 0])
    assert batch["observation.images.wrist_is_pad"].tolist() == [False, True]
    assert batch["observation.images.front_is_pad"].tolist() == [False, False]
    assert batch["observation.images.wrist"][1].max() == 0
    assert batch["observation.images.wrist"][0, 0, 0].tolist() == [7, 0, 0]
    assert batch["observation.images.front"][1, 0, 0].tolist() == [8, 0, 0]


def test_a_camera_that_nobody_declared_is_refused(opened) -> None:
    with pytest.raises(UsageError, match=r"E231.*camera wrist.*observation.images.front"):
        opened([Numbered()], {"cameras": ["front", "wrist"]})


def test_state_of_several_features_and_chosen_elements(opened) -> None:
    source = Numbered(extra={"observation.gripper": lambda n: np.arange(n) + 100.0})
    mixture = opened(
        [source],
        {"state_dim": 4},
        [{"state": ["observation.state", "observation.gripper"], "state_index": [3, 2], "action_index": [2, 0]}],
    )
    batch = mixture.gather([0], [4])
    assert batch["observation.state"].tolist() == [[104, 4, 0, 0]]
    assert batch["action"].tolist() == [[[4, 0]]]


def test_extras_and_steps_texts(opened) -> None:
    source = Numbered(
        extra={
            "next.reward": lambda n: np.arange(n, dtype=np.float32),
            "task": lambda n: np.asarray([f"do {i}" for i in range(n)]),
        }
    )
    batch = opened([source], {"extras": ["next.reward"]}).gather([0, 0], [4, 6])
    assert batch["next.reward"].tolist() == [4, 1]
    assert batch["task"] == ["do 4", "do 1"]


@pytest.mark.parametrize("delta", ["state", "previous"])
def test_delta_chunks(opened, delta: str) -> None:
    contract = {"chunk": 4, "delta": delta, "delta_mask": [False, False, True]}
    batch = opened([Numbered(lengths=(6,))], contract).gather([0], [3])
    # rows 3, 4, 5 and padding; the state of row 3 is 3
    expected = {"state": [0, 1, 2, 2], "previous": [0, 1, 1, 0]}[delta]
    assert batch["action"][0, :, 2].tolist() == expected
    assert batch["action"][0, :, 0].tolist() == [0, 0, 0, 0]
    assert batch["action_is_pad"][0].tolist() == [False, False, False, True]


def test_delta_from_the_state_is_that_of_the_statistics() -> None:
    """`vla_data.statistics.chunks`, which is openpi's ``DeltaActions``, on real poses as actions."""
    source = vd.open_source(LIBERO, layout="libero")
    episode = source.read(source.episodes()[0])
    states = next(
        a for n, a in episode.arrays.items() if n.startswith("observation.") and a.ndim == 2 and a.shape[1] > 6
    )
    name = next(n for n, a in episode.arrays.items() if a is states)
    mixture = open_mixture(
        {
            "contract": {"chunk": 7, "delta": "state", "delta_mask": "6,-1", "state_dim": states.shape[1]},
            "datasets": [{"root": str(LIBERO), "open": {"layout": "libero"}, "state": [name], "action": name}],
        }
    )
    batch = mixture.gather([0] * len(episode), np.arange(len(episode)))
    mask = (True,) * 6 + (False,)
    wanted = action_chunks(states.astype(np.float64), 7, states=states.astype(np.float64), delta=mask)
    assert np.array_equal(batch["action"], wanted.astype(np.float32))


# -- conventions and rates ------------------------------------------------------------------------------


def test_actions_of_two_conventions_become_one() -> None:
    source = vd.open_source(LIBERO, layout="libero")
    episode = source.read(source.episodes()[0])
    mixture = open_mixture(
        {
            "contract": {"convention": "openvla_libero"},
            "datasets": [{"root": str(LIBERO), "open": {"layout": "libero"}, "state": []}],
        }
    )
    batch = mixture.gather([0] * len(episode), np.arange(len(episode)))
    meaning = vd.actions.Convention.from_json(source.schema(episode).features["action"].convention)
    wanted = convert(episode.arrays["action"], meaning, preset("openvla_libero"))
    assert np.array_equal(batch["action"][:, 0], wanted.astype(np.float32))
    assert set(np.unique(episode.arrays["action"][:, 6])) == {-1.0}  # open, which is 1 there
    assert set(np.unique(batch["action"][..., 6])) == {1.0}


def test_a_convention_that_nobody_declared_is_refused(opened) -> None:
    with pytest.raises(UsageError, match=r"E231.*convention of action"):
        opened([Numbered()], {"convention": "libero"})


def test_another_convention_than_the_datasets_own_is_refused(opened) -> None:
    own = {"layout": {"translation": [0, 1, 2]}, "kind": "absolute", "translation_unit": "m"}
    other = {**own, "translation_unit": "cm"}
    opened([Numbered(convention=own)], {}, [{"convention": own}])
    with pytest.raises(UsageError, match=r"E232.*another convention"):
        opened([Numbered(convention=own)], {}, [{"convention": other}])


def test_commands_are_composed_where_rows_would_be_skipped(opened) -> None:
    own = {
        "layout": {"translation": [0, 1, 2]},
        "kind": "delta",
        "reference": "previous_target",
        "frame": "world",
        "translation_unit": "mm",
    }
    source = Numbered(lengths=(9,), convention=own)
    composed = opened([source], {"action_freq": 5, "chunk": 5})
    step = Resample(conventions={"action": own}, source_fps=10, fps=5)
    after = step.apply(source.read(source.episodes()[0]))
    batch = composed.gather([0] * len(after), np.arange(len(after)))
    assert np.array_equal(batch["action"][:, 0], after.arrays["action"].astype(np.float32))
    assert batch["observation.images.front"][:, 0, 0, 2].tolist() == after.index.tolist()
    assert batch["timestamp"].tolist() == [0, 0.2, 0.4, 0.6, 0.8]
    assert not composed.effective.findings

    rows = opened([source], {"action_freq": 5, "chunk": 5, "resample": "rows"})
    picked = rows.gather([0], [0])["action"][0, :, 2]
    assert picked.tolist() == [0, 2, 4, 6, 8]
    assert [finding.code for finding in rows.effective.findings] == ["rows_resampled"]
    assert "0.5 times" in rows.effective.findings[0].message


def test_a_wrong_label_of_10_for_20_hz_is_reported(opened) -> None:
    times = {"timestamp": lambda n: np.arange(n) / 20}
    found = opened([Numbered(lengths=(9, 9), extra=times)]).effective.findings
    assert [finding.code for finding in found] == ["fps"]
    assert "labelled 10 Hz" in found[0].message
    assert "20 Hz" in found[0].message
    assert not opened([Numbered(lengths=(9, 9), extra=times)], {}, [{"fps": 20}]).effective.findings
    assert not opened([Numbered(lengths=(9, 9), fps=20.0, extra=times)]).effective.findings


def test_liberos_own_actions_labelled_10_hz_are_reported(tmp_path: Path) -> None:
    """As ``physical-intelligence/libero`` is: 20 Hz actions, and a LeRobot dataset that says 10."""
    source = vd.open_source(LIBERO, layout="libero")
    vd.run(source, (), vd.open_sink(tmp_path / "set", images="jpeg"))
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["fps"] == 20
    schema = json.loads((tmp_path / "set/meta/vla_data/schema.json").read_text())
    assert schema["features"]["action"]["convention"]["control_rate"] == 20
    entry = {"root": str(tmp_path / "set"), "state": []}
    assert not open_mixture({"contract": {}, "datasets": [entry]}).effective.findings
    found = open_mixture({"contract": {}, "datasets": [{**entry, "fps": 10}]}).effective.findings
    assert [finding.code for finding in found] == ["fps"]
    info["fps"] = 10  # and where only the label was written over, the recorded times say otherwise
    (tmp_path / "set/meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match=r"E003.*no episode can be used.*E221 .*0\.05 s.*1/10 s"):
        open_mixture({"contract": {}, "datasets": [entry]})


def documented() -> dict[str, Any]:
    """The configuration of ``docs/mixtures.md``."""
    text = (ROOT / "docs/mixtures.md").read_text(encoding="utf-8")
    return tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])


def test_the_documented_configuration_runs_on_libero() -> None:
    """20 Hz actions of a controller, at the 10 Hz that it asks for."""
    config = documented()
    assert (config["contract"]["action_freq"], config["contract"]["convention"]) == (10, "openvla_libero")
    cameras = {"front": "observation.images.agentview_rgb", "wrist": ""}
    config |= {
        "weights": [1],
        "datasets": [{"root": str(LIBERO), "open": {"layout": "libero"}, "cameras": cameras}],
    }
    mixture = open_mixture(config)
    assert not mixture.effective.findings
    source = vd.open_source(LIBERO, layout="libero")
    start = 0
    for ref in source.episodes():
        episode = source.read(ref)
        batch = mixture.gather([0] * (-(-len(episode) // 2)), start + np.arange(-(-len(episode) // 2)))
        start += len(batch["action"])
        raw = episode.arrays["action"].astype(np.float64)
        pairs = [raw[i : i + 2] for i in range(0, len(raw), 2)]
        # LIBERO's controller moves 5 cm at 1, along the world's axes; its gripper closes above 0. OpenVLA's 1 is
        # an open one.
        metres = np.stack([pair[:, :3].sum(axis=0) * 0.05 for pair in pairs])
        turns = [[Rotation.from_rotvec(row[3:6] * 0.5) for row in pair] for pair in pairs]
        vectors = np.stack([(t[1] * t[0] if len(t) > 1 else t[0]).as_rotvec() for t in turns])
        gripper = np.stack([(1 - np.sign(pair[0, 6:])) / 2 for pair in pairs])
        wanted = np.concatenate((metres, vectors, gripper), axis=1)
        np.testing.assert_allclose(batch["action"][:, 0, :7], wanted, rtol=0, atol=1e-7)
        assert not batch["action"][..., 7:].any()
    assert start == len(mixture)


def test_a_presets_rate_gives_way_to_the_contracts() -> None:
    libero = preset("libero")
    assert libero.control_rate == 20
    at_10 = Contract(convention=libero, action_freq=10).target
    assert at_10 == replace(libero, control_rate=10.0, translation_unit="m", rotation_unit="rad")
    assert Contract(convention=libero, action_freq=20).target == libero  # its own rate: its own inputs
    assert Contract(convention=libero, action_freq=10, resample="rows").target == libero
    assert Contract(convention=libero).target == libero
    pose = Convention(layout={"translation": (0, 1, 2)}, kind="absolute", translation_unit="m", control_rate=5)
    assert Contract(convention=pose, action_freq=10).target == replace(pose, control_rate=10.0)


def test_another_rate_without_resampling_is_still_refused() -> None:
    entry = {"root": str(LIBERO), "open": {"layout": "libero"}, "state": []}
    target = replace(preset("openvla_libero"), control_rate=10.0).to_json()
    with pytest.raises(UsageError, match=r"control rates differ: 10 and 20"):
        open_mixture({"contract": {"convention": target}, "datasets": [entry]})


# -- the loader -----------------------------------------------------------------------------------------


def ids(batch: dict[str, Any]) -> list[tuple[int, int, int]]:
    return list(zip(*(batch[k].tolist() for k in ("dataset_index", "episode_index", "frame_index")), strict=True))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@shared
@given(
    order=st.sampled_from(["draw", "shuffle"]),
    stop=st.integers(0, 12),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
    last=st.sampled_from(["drop", "short", "wrap"]),
)
def test_resumes_to_the_same_stream_with_any_workers(opened, order, stop, before, after, last) -> None:
    def loader(workers: int) -> Loader:
        mixture = opened([Numbered(lengths=(5, 4)), Numbered(number=1, lengths=(8,))], seed=3, order=order)
        return Loader(mixture, batch_size=4, workers=workers, last=last)

    def stream(one: Loader, count: int) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        while len(out) < count:
            for batch in one:
                out.append(batch)
                if len(out) == count:
                    break
        return out

    whole = stream(loader(0), 16)
    first = loader(before)
    head = stream(first, stop)
    state = json.loads(json.dumps(first.state_dict()))
    second = loader(after)
    second.load_state_dict(state)
    again = head + stream(second, 16 - stop)
    assert all(same(a, b) for a, b in zip(whole, again, strict=True))


@shared
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    order=st.sampled_from(["draw", "shuffle", "sequential"]),
    size=st.integers(1, 4),
    world=st.integers(1, 5),
    last=st.sampled_from(["drop", "short", "wrap"]),
    cut=st.integers(0, 30),
    data=st.data(),
)
def test_any_rank_goes_on_from_any_ranks_state(opened, lengths, order, size, world, last, cut, data) -> None:
    """Ranks in step, stopped anywhere, go on as another number of ranks: no frame is lost, none comes twice."""
    mixture = opened([Numbered(lengths=tuple(lengths))], order=order, seed=1)
    total, whole = len(mixture), size * world
    worlds = [n for n in range(1, whole + 1) if whole % n == 0 and (last != "short" or n <= total)]
    if total < {"drop": whole, "short": world, "wrap": 1}[last]:
        for rank in range(world):
            with pytest.raises(UsageError, match=r"E001.*no batch"):
                Loader(mixture, batch_size=size, rank=rank, world_size=world, last=last)
        return

    seen: dict[int, list[tuple[int, int, int]]] = {0: [], 1: [], 2: []}

    def ranks(count: int) -> list[Loader]:
        return [
            Loader(mixture, batch_size=whole // count, rank=r, world_size=count, last=last) for r in range(count)
        ]

    def train(loaders: list[Loader], steps: int) -> bool:
        """As many steps, or to the end of epoch 2; whether all of them were made."""
        while loaders[0].epoch < 3:
            streams = [iter(one) for one in loaders]
            while True:
                if steps == 0:
                    return True
                epoch = loaders[0].epoch
                batches = [next(stream, None) for stream in streams]
                if batches == [None] * len(batches):
                    break  # the epoch is over for all ranks at once
                for batch in batches:
                    seen[epoch] += ids(batch) if batch is not None else []
                states = [one.state_dict() for one in loaders]
                assert states == [states[0]] * len(states)
                steps -= 1
        return steps == 0

    first = ranks(world)
    train(first, cut)
    state = json.loads(json.dumps(first[data.draw(st.integers(0, world - 1))].state_dict()))
    second = ranks(data.draw(st.sampled_from(worlds)))
    for one in second:
        one.load_state_dict(state)
    train(second, 10**6)
    positions = {
        "drop": np.arange(total // whole * whole),
        "short": np.arange(total),
        "wrap": np.arange(-(-total // whole) * whole) % total,
    }[last]
    for epoch, found in seen.items():
        assert sorted(found) == sorted(ids(mixture.batch(epoch, positions)))


KILLED = """
import json, os, signal, sys
from vla_data.mixtures import Loader, open_mixture
config, state, until = sys.argv[1], sys.argv[2], int(sys.argv[3])
loader = Loader(open_mixture(config), batch_size=8, workers=2)
if os.path.exists(state):
    loader.load_state_dict(json.load(open(state)))
count = 0
while count < until:
    for batch in loader:
        sums = [int(batch["action"].view("u4").sum()), batch["frame_index"].tolist()]
        print(json.dumps([batch["episode_index"].tolist(), *sums]), flush=True)
        with open(state + "~", "w") as file:
            json.dump(loader.state_dict(), file)
        os.replace(state + "~", state)
        count += 1
        if count == until:
            break
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_goes_on_after_a_kill_with_the_same_stream(tmp_path: Path) -> None:
    config = tmp_path / "mixture.json"
    config.write_text(json.dumps({"contract": {"chunk": 3}, "datasets": [{"root": str(ROLLOUTS), "state": []}]}))

    def lines(state: str, until: int) -> list[str]:
        command = [sys.executable, "-c", KILLED, str(config), str(tmp_path / state), str(until)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        return done.stdout.splitlines()

    assert lines("a", 20) == lines("b", 5) + lines("b", 9) + lines("b", 6)


def test_state_of_another_stream_is_refused(opened) -> None:
    def loader(lengths: tuple[int, ...] = (5, 4), size: int = 4, **rest: Any) -> Loader:
        return Loader(opened([Numbered(lengths=lengths), Numbered(number=1)], **rest), batch_size=size)

    state = loader().state_dict()
    loader().load_state_dict(state)
    for other in (loader((5, 3)), loader(size=3), loader(seed=1), loader(weights=[1, 2])):
        with pytest.raises(UsageError, match=r"E301.*saved with other episodes"):
            other.load_state_dict(state)
    for wrong in ({}, {**state, "version": 2}, {**state, "batch": 99}, {**state, "epoch": -1}, {**state, "x": 1}):
        with pytest.raises(UsageError, match="E301"):
            loader().load_state_dict(wrong)


def test_a_pickled_mixture_gives_the_same_batches() -> None:
    mixture = open_mixture(
        {"contract": {"cameras": ["primary"]}, "datasets": [{"root": str(ROLLOUTS), "state": []}]}
    )
    again = pickle.loads(pickle.dumps(mixture))
    assert same(mixture.batch(1, np.arange(6)), again.batch(1, np.arange(6)))


def test_a_batch_larger_than_the_data_is_refused_with_the_way_out(opened) -> None:
    with pytest.raises(UsageError, match=r"E001.*wrap"):
        Loader(opened([Numbered()]), batch_size=100)


# -- images and where they lie --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for kind in ("jpeg", "png"):
        vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(root / kind, images=kind))
    return root


def config_of(root: Path, **rest: Any) -> dict[str, Any]:
    contract = {"cameras": ["primary"], **rest.pop("contract", {})}
    return {"contract": contract, "datasets": [{"root": str(root), "state": []}], **rest}


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("cached", [False, True])
def test_images_are_found_in_the_file_and_are_those_of_the_source(
    sets: Path, tmp_path: Path, kind: str, cached: bool
) -> None:
    rest = {"cache": str(tmp_path / "packs")} if cached else {}
    mixture = open_mixture(config_of(sets / kind, **rest))
    source = vd.open_source(sets / kind)
    start = 0
    for number, ref in enumerate(source.episodes()):
        episode = source.read(ref)
        frames = episode.frames["observation.images.primary"]
        made = mixture.members[0].track(number)
        assert {type(item) for item in made.frames["primary"].items} == {Located}
        batch = mixture.gather([0] * len(frames), start + np.arange(len(frames)))
        assert all(
            np.array_equal(batch["observation.images.primary"][i], frames.pixels(i)) for i in range(len(frames))
        )
        assert np.array_equal(batch["action"][:, 0], episode.arrays["action"])
        start += len(frames)


def test_image_that_changed_on_disk_is_refused_and_named(sets: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(sets / "jpeg", tmp_path / "set")
    mixture = open_mixture(config_of(tmp_path / "set"))
    file = next((tmp_path / "set/data").rglob("*.parquet"))
    image = mixture.members[0].track(0).frames["primary"].items[0].data()
    at = file.read_bytes().index(image) + len(image) // 2
    with file.open("r+b") as handle:
        handle.seek(at)
        handle.write(b"\x00\x00\x00\x00")
    with pytest.raises(DataError, match=r"E109.*set, episode episode_000000: .*changed"):
        mixture.gather([0], [0])


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("left", [0, 100])
def test_image_of_a_file_that_is_cut_meanwhile_is_refused_and_the_process_lives(
    sets: Path, tmp_path: Path, cached: bool, left: int
) -> None:
    import shutil

    shutil.copytree(sets / "jpeg", tmp_path / "set")
    rest = {"cache": str(tmp_path / "packs")} if cached else {}
    mixture = open_mixture(config_of(tmp_path / "set", **rest))
    for file in [*(tmp_path / "set/data").rglob("*.parquet"), *(tmp_path / "packs").rglob("*.pack")]:
        os.truncate(file, left)
    last = mixture.members[0].lengths[-1] - 1 + sum(mixture.members[0].lengths[:-1])
    with pytest.raises(DataError, match=r"E105.*set, episode episode_00000\d: .*ends .* bytes before"):
        mixture.gather([0] * (last + 1), np.arange(last + 1))


def test_cache_is_read_instead_of_the_source_and_made_anew_when_damaged(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(sets / "png", cache=str(tmp_path / "packs"))
    batch = open_mixture(config).batch(0, np.arange(8))
    packs = sorted((tmp_path / "packs").rglob("*.pack"))
    assert len(packs) == 3

    from converters.lerobot.source import LerobotSource

    read = LerobotSource.read
    calls: list[str] = []

    def counted(self: LerobotSource, ref: Any) -> Any:
        calls.append(ref.id)
        return read(self, ref)

    monkeypatch.setattr(LerobotSource, "read", counted)
    assert same(open_mixture(config).batch(0, np.arange(8)), batch)
    assert calls == []
    for pack, change in zip(
        packs, (lambda d: d[:-1], lambda d: b"", lambda d: d[:200] + b"\0\0" + d[202:]), strict=True
    ):
        pack.write_bytes(change(pack.read_bytes()))
    assert same(open_mixture(config).batch(0, np.arange(8)), batch)
    assert len(calls) == 3
    longer = {**config, "contract": {**config["contract"], "chunk": 5}}
    open_mixture(longer)
    assert len(calls) == 3  # what a pack does not depend on does not make it anew


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_fitted_packs_give_the_batches_that_there_are_without_packs(
    sets: Path, tmp_path: Path, kind: str, resize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = {"image_size": [20, 24], "resize": resize}
    want = open_mixture(config_of(sets / kind, contract=contract)).batch(0, np.arange(8))
    config = config_of(sets / kind, contract=contract, cache=str(tmp_path / "packs"), cache_images="fitted")
    open_mixture(config)
    monkeypatch.setattr("vla_data.media.images.simplejpeg.decode_jpeg", None)  # a batch is a gather
    monkeypatch.setattr("vla_data.media.images._decode_png", None)
    assert same(open_mixture(config).batch(0, np.arange(8)), want)
    larger = {**config, "contract": {**config["contract"], "image_size": [40, 48]}}
    with pytest.raises(TypeError):  # packs of another size are not taken for it
        open_mixture(larger).batch(0, np.arange(8))


def test_fitted_packs_want_a_size_and_a_folder(sets: Path, tmp_path: Path) -> None:
    for rest in ({"cache": str(tmp_path)}, {"contract": {"image_size": [8, 8]}}):
        with pytest.raises(UsageError, match=r"E001.*cache_images = 'fitted' is for a cache and an image_size"):
            open_mixture(config_of(sets / "png", cache_images="fitted", **rest))


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_jpegs_are_scaled_while_they_are_decoded(sets: Path, resize: str) -> None:
    mixture = open_mixture(config_of(sets / "jpeg", contract={"image_size": [40, 40], "resize": resize}))
    item = mixture.members[0].track(0).frames["primary"].items[0]
    got = mixture.gather([0], [0])["observation.images.primary"][0]
    small = decode(item.data(), at_least=(60, 80))  # 120 x 160, halved; a quarter would be 30 x 40
    if resize == "stretch":
        wanted = np.asarray(Image.fromarray(small).resize((40, 40), Image.Resampling.BILINEAR))
    else:
        wanted = np.zeros((40, 40, 3), dtype=np.uint8)
        wanted[5:35] = decode(item.data(), at_least=(30, 40))  # 40 wide is 30 high, in the middle
    assert np.array_equal(got, wanted)


def test_video_frames_are_found_wherever_they_are(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from vla_data.media.video_settings import VideoSettings

    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(tmp_path / "set", video=VideoSettings(codec="h264")))
    mixture = open_mixture(config_of(tmp_path / "set"))
    source = vd.open_source(tmp_path / "set")
    wanted = [
        episode.frames["observation.images.primary"].pixels(i)
        for episode in map(source.read, source.episodes())
        for i in range(len(episode))
    ]
    order = np.random.default_rng(0).permutation(len(wanted))[:24]
    loader_batch = mixture.gather([0] * 24, order)
    for i, frame in enumerate(order.tolist()):
        assert np.array_equal(loader_batch["observation.images.primary"][i], wanted[frame])


def test_sizes_that_differ_need_a_declared_size(opened) -> None:
    two = [Numbered(), Numbered(number=1, size=(16, 8))]
    with pytest.raises(UsageError, match=r"E231.*image_size"):
        opened(two)
    assert opened(two, {"image_size": [8, 8]}).batch(0, np.arange(2))["observation.images.front"].shape == (
        2,
        8,
        8,
        3,
    )


def test_bad_episodes_are_left_out_and_said(opened) -> None:
    mixture = opened([Numbered(lengths=(5, 4, 3), bad=(1,))])
    assert len(mixture) == 8
    assert [finding.code for finding in mixture.effective.findings] == ["left_out"]
    assert "episode_000001: E105" in mixture.effective.findings[0].message
    batch = mixture.batch(0, np.arange(50))
    assert {row[1] for row in ids(batch)} == {0, 2}
    assert set(batch["episode_position"].tolist()) == {0, 1}
    assert mixture.members[0].refs[1].id == "episode_000002"


def test_only_the_wanted_episodes(opened) -> None:
    mixture = opened([Numbered(lengths=(5, 4, 3))], {}, [{"episodes": [2, 0]}])
    assert [ref.id[-1] for ref in mixture.members[0].refs] == ["0", "2"]
    with pytest.raises(UsageError, match=r"E007.*episode 3"):
        opened([Numbered(lengths=(5, 4, 3))], {}, [{"episodes": [3]}])
