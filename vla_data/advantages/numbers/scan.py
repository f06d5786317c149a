"""The recurrence behind every return and advantage, over a whole dataset at once."""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_data.advantages.numbers.flat import Floats

_BLOCK: Final = 32


def reverse_scan(b: Floats, a: Floats) -> Floats:
    """``x[t] = b[t] + a[t] * x[t + 1]`` from the end, with ``x[N] = 0``; (N,) float64, in O(N) time.

    A zero in ``a`` ends an episode there: nothing crosses it, so one call serves all episodes, whether there are
    many short ones or a single long one. ``b`` and ``a`` are finite.

    The rows are cut into blocks of 32, and all blocks are scanned side by side, as vectors, as if nothing came
    after them. What does come after a block reaches its rows times the product of ``a`` up to the block's end, and
    what the blocks begin with obeys the same recurrence, 32 times shorter. Products and sums are those of the
    loop over frames, only the order of additions differs, so results agree to a few units in the last place.
    """
    n = len(b)
    if n <= _BLOCK:
        out = np.empty(n)
        x = 0.0
        for t in range(n - 1, -1, -1):
            x = b[t] + a[t] * x
            out[t] = x
        return out
    blocks = -(-n // _BLOCK)
    # Row t of these is step t of every block: vectors that lie together. The rows that fill the last block up
    # come after the end, where everything is zero.
    local = np.zeros((_BLOCK, blocks))
    reach = np.zeros((_BLOCK, blocks))
    for table, values in ((local, b), (reach, a)):
        whole = n // _BLOCK
        table[:, :whole] = values[: whole * _BLOCK].reshape(whole, _BLOCK).T
        table[: n - whole * _BLOCK, whole:] = values[whole * _BLOCK :, None]
    step = np.empty(blocks)
    for t in range(_BLOCK - 2, -1, -1):
        np.multiply(reach[t], local[t + 1], out=step)
        local[t] += step
        reach[t] *= reach[t + 1]
    after = np.append(reverse_scan(local[0], reach[0])[1:], 0.0)
    reach *= after
    local += reach
    return local.T.reshape(-1)[:n]
