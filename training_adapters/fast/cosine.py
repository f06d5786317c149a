"""The discrete cosine transform over time that FAST tokens are made of."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@functools.cache
def matrix(horizon: int) -> Floats:
    """The orthonormal DCT-II of ``horizon`` steps, ``(frequency, step)``; its transpose is its inverse.

    ``M[k, n] = s_k cos(pi k (2 n + 1) / (2 H))`` with ``s_0 = sqrt(1/H)`` and ``s_k = sqrt(2/H)``
    (Ahmed, Natarajan and Rao, 1974).
    """
    k, n = np.arange(horizon)[:, None], np.arange(horizon)[None, :]
    out = np.sqrt(2 / horizon) * np.cos(np.pi * k * (2 * n + 1) / (2 * horizon))
    out[0] /= np.sqrt(2)
    out.flags.writeable = False  # the cache hands out one array
    fixed: Floats = out
    return fixed


def coefficients(chunks: Floats, scale: float) -> NDArray[np.int64]:
    """``(N, H * D)`` whole numbers of ``(N, H, D)`` actions: by frequency, then dimension; halves go to even."""
    spectrum = np.einsum("kh,nhd->nkd", matrix(chunks.shape[1]), chunks)
    whole: NDArray[np.int64] = np.around(spectrum * scale).astype(np.int64).reshape(len(chunks), -1)
    return whole


def actions(whole: NDArray[np.int64], scale: float, horizon: int) -> Floats:
    """``(N, H, D)`` actions of `coefficients`, each within ``0.5 / scale * sqrt(H)`` of what they were made of."""
    spectrum = whole.reshape(len(whole), horizon, -1) / scale
    out: Floats = np.einsum("kh,nkd->nhd", matrix(horizon), spectrum)
    return out
