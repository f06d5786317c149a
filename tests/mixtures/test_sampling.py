"""The stream: weights, orders, shards. Nothing here reads data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vla_data.errors import UsageError
from vla_data.mixtures import Plan, Sampling, philox
from vla_data.mixtures.sampling import shares

SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 0)


def words(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray([value], dtype=np.uint64) for value in values)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected) -> None:
    """``kat_vectors`` of Random123, philox4x32 with 10 rounds."""
    assert tuple(int(word[0]) for word in philox.philox(words(*counter), key)) == expected


@settings(deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 1000))
def test_permutation_has_each_item_once(size: int, seed: int, epoch: int) -> None:
    places = philox.permutation(np.arange(size), size, seed=seed, epoch=epoch)
    assert np.array_equal(np.sort(places), np.arange(size))


def test_permutation_is_random() -> None:
    """Where item 0 of 6 goes over 3,000 epochs, and which pairs become neighbours, is uniform."""
    orders = np.stack([philox.permutation(np.arange(6), 6, seed=7, epoch=epoch) for epoch in range(3_000)])
    for place in range(6):
        assert stats.chisquare(np.bincount(orders[:, place], minlength=6)).pvalue > 1e-4
    pairs = np.bincount(orders[:, 0] * 6 + orders[:, 1], minlength=36).reshape(6, 6)
    assert stats.chisquare(pairs[~np.eye(6, dtype=bool)]).pvalue > 1e-4


@settings(max_examples=25, deadline=None)
@given(
    frames=st.lists(st.integers(1, 500), min_size=2, max_size=6),
    weights=st.lists(st.integers(1, 20), min_size=6, max_size=6),
    seed=st.integers(0, 2**64 - 1),
)
def test_100_000_draws_match_the_weights(frames: list[int], weights: list[int], seed: int) -> None:
    chosen = shares(tuple(frames), weights=tuple(map(float, weights[: len(frames)])))
    sampling = Sampling(frames=tuple(frames), shares=chosen, seed=seed, epoch_frames=100_000)
    dataset, frame = sampling.at(0, np.arange(100_000))
    counts = np.bincount(dataset, minlength=len(frames))
    assert stats.chisquare(counts, np.asarray(chosen) * 100_000).pvalue > 1e-7
    # Within a dataset all frames are alike: P(frame) = w_d / (sum w * len_d).
    largest = int(counts.argmax())
    within = np.bincount(frame[dataset == largest], minlength=frames[largest])
    assert len(within) == frames[largest]
    assert len(within) == 1 or stats.chisquare(within).pvalue > 1e-7


def test_weights_by_dataset_frames_and_temperature() -> None:
    assert shares((100, 300), weights=(1.0, 1.0)) == (0.5, 0.5)
    assert shares((100, 300)) == (0.25, 0.75)
    assert shares((100, 300), weighting="datasets") == (0.5, 0.5)
    assert shares((100, 400), weighting="temperature", temperature=2.0) == pytest.approx((1 / 3, 2 / 3))
    assert shares((0, 10, 30), weights=(5.0, 1.0, 1.0)) == (0, 0.5, 0.5)
    with pytest.raises(UsageError, match="no dataset has both"):
        shares((0, 10), weights=(1.0, 0.0))


@settings(deadline=None)
@given(sizes=SIZES, zero=st.integers(0, 4), seed=st.integers(0, 99))
def test_no_draw_is_outside_or_of_weight_0(sizes: list[int], zero: int, seed: int) -> None:
    weights = [0.0 if i == zero else 1.0 for i in range(len(sizes))]
    if not any(size and weight for size, weight in zip(sizes, weights, strict=True)):
        weights = [1.0] * len(sizes)
    sampling = Sampling(
        frames=tuple(sizes), shares=shares(tuple(sizes), weights=tuple(weights)), seed=seed, epoch_frames=500
    )
    dataset, frame = sampling.at(3, np.arange(500))
    assert (frame >= 0).all()
    assert (frame < np.asarray(sizes)[dataset]).all()
    assert (np.asarray(weights)[dataset] > 0).all()


@settings(deadline=None)
@given(
    sizes=SIZES,
    order=st.sampled_from(["shuffle", "sequential"]),
    batch=st.integers(1, 9),
    world=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_shards_are_disjoint_and_complete(
    sizes: list[int], order: str, batch: int, world: int, epoch: int
) -> None:
    sampling = Sampling(frames=tuple(sizes), shares=shares(tuple(sizes)), order=order)
    seen: list[tuple[int, int]] = []
    for rank in range(world):
        try:
            plan = Plan(sampling=sampling, batch_size=batch, rank=rank, world_size=world, last="short")
        except ValueError:  # fewer frames than ranks: one would have none, and all say so
            assert sum(sizes) < world
            continue
        for number in range(len(plan)):
            positions = plan.positions(number)
            assert 1 <= len(positions) <= batch
            seen += zip(*(column.tolist() for column in sampling.at(epoch, positions)), strict=True)
    everything = [(d, f) for d, size in enumerate(sizes) for f in range(size)]
    assert sorted(seen) == (everything if sum(sizes) >= world else [])


@settings(deadline=None)
@given(sizes=SIZES, batch=st.integers(1, 9), world=st.integers(1, 5))
def test_wrap_has_equal_batches_and_drop_no_frame_twice(sizes: list[int], batch: int, world: int) -> None:
    sampling = Sampling(frames=tuple(sizes), shares=shares(tuple(sizes)), order="shuffle")
    total = sum(sizes)
    wrapped = [
        Plan(sampling=sampling, batch_size=batch, rank=r, world_size=world, last="wrap") for r in range(world)
    ]
    assert {len(plan) for plan in wrapped} == {-(-total // (batch * world))}
    every = [p for plan in wrapped for n in range(len(plan)) for p in plan.positions(n).tolist()]
    assert set(every) == set(range(total))
    if total >= batch * world:
        dropped = [Plan(sampling=sampling, batch_size=batch, rank=r, world_size=world) for r in range(world)]
        kept = [p for plan in dropped for n in range(len(plan)) for p in plan.positions(n).tolist()]
        assert sorted(kept) == list(range(total // (batch * world) * batch * world))


@settings(deadline=None)
@given(batch=st.integers(1, 6), numbers=st.integers(1, 4))
def test_another_world_of_the_same_global_batch_has_the_same_stream(batch: int, numbers: int) -> None:
    sampling = Sampling(frames=(97,), shares=(1.0,))

    def stream(world: int, size: int) -> list[list[int]]:
        plans = [Plan(sampling=sampling, batch_size=size, rank=r, world_size=world) for r in range(world)]
        return [[p for plan in plans for p in plan.positions(n).tolist()] for n in range(len(plans[0]))]

    assert stream(numbers, batch) == stream(1, batch * numbers)


def test_epochs_and_seeds_differ() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        sampling = Sampling(frames=(1000,), shares=(1.0,), seed=seed)
        return sampling.at(epoch, np.arange(10))[1].tolist()

    assert len({tuple(first(seed, epoch)) for seed in (0, 1, 2**32, 2**63) for epoch in range(3)}) == 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "shuffle", "shares": (0.5, 0.5)},
        {"order": "shuffle", "epoch_frames": 3},
        {"order": "random"},
        {"seed": 2**64},
        {"seed": -1},
        {"epoch_frames": 0},
    ],
)
def test_sampling_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"order|epoch_frames|seed"):
        Sampling(**{"frames": (1, 3), "shares": (0.25, 0.75), **wrong})  # type: ignore[arg-type]
