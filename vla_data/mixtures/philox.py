"""Random numbers that are a function of (seed, epoch, position), so that any place in a stream is reached at once.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a block cipher of a counter.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_ROUNDS: Final = 10
_NETWORK: Final = 6  # rounds of the permutation; 4 are enough in theory (Luby, Rackoff), for large domains

DATASET, FRAME, ORDER = 0, 1, 2
"""Streams of one seed, so that no two uses of it see the same numbers."""


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Four 32-bit words (held as uint64) for each counter of four such words."""
    a, b, c, d = counter
    for number in range(_ROUNDS):
        k0 = np.uint64((key[0] + number * _WEYL[0]) & 0xFFFFFFFF)
        k1 = np.uint64((key[1] + number * _WEYL[1]) & 0xFFFFFFFF)
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (second >> _HALF) ^ b ^ k0, second & _LOW, (first >> _HALF) ^ d ^ k1, first & _LOW
    return a, b, c, d


def uniform(positions: NDArray[np.int64], *, seed: int, epoch: int, stream: int) -> NDArray[np.float64]:
    """``(n,)`` numbers from 0 up to 1 (excluded), multiples of 2**-53."""
    a, b, _, _ = _words(positions.astype(np.uint64), seed=seed, epoch=epoch, stream=stream)
    whole = ((a << _HALF) | b) >> np.uint64(11)
    return np.asarray(whole.astype(np.float64) * 2.0**-53)


def permutation(positions: NDArray[np.int64], size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Where each position goes in a shuffle of ``size`` items, without making the shuffle.

    A Feistel network on the next even number of bits; what falls outside of ``size`` goes through it again
    (cycle walking), at most 4 times on average.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    out = positions.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = out[todo] >> shift, out[todo] & mask
        for number in range(_NETWORK):
            mixed = _words(right, seed=seed, epoch=epoch, stream=ORDER + number)[0]
            left, right = right, left ^ (mixed & mask)
        out[todo] = (left << shift) | right
        todo = todo[out[todo] >= np.uint64(size)]
    return out.astype(np.int64)


def _words(values: Words, *, seed: int, epoch: int, stream: int) -> tuple[Words, Words, Words, Words]:
    key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    fixed = np.zeros_like(values)
    return philox((values & _LOW, values >> _HALF, fixed + np.uint64(epoch), fixed + np.uint64(stream)), key)
