"""What a trainer does with advantages, on any array that follows the array-API standard.

NumPy, torch and JAX arrays go in unchanged and come out as what they were, on their device, differentiable where
the library differentiates. Nothing is imported: the functions are those of the array's own library.

A ``mask`` is True where a value counts; it has the shape of the values.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final, Literal

from vla_data import options as checks

NORMALIZATIONS: Final = ("min_max", "none", "robust", "standard", "zero_mean")
CLIPS: Final = ("asymmetric", "none", "quantile", "sigma", "symmetric")
SIGNS: Final = ("abs", "clamp", "exp", "keep", "relu", "shift", "softplus")
_FLAT: Final = 1e-8  # spreads below it divide by 1


def namespace(x: Any) -> Any:
    """The functions of an array's library: its ``__array_namespace__``, or for torch, which has none, torch."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    name = type(x).__module__.partition(".")[0]
    if name in ("numpy", "torch"):
        return sys.modules[name]
    raise TypeError(f"{type(x).__name__} is not an array")


def replace_invalid(x: Any, *, nan: float = 0.0, inf: float = 1.0) -> Any:
    """NaN becomes ``nan``, +inf becomes ``inf`` and -inf minus that. Count them: each is a defect upstream."""
    xp = namespace(x)
    out = xp.where(xp.isnan(x), xp.zeros_like(x) + nan, x)
    return xp.where(xp.isinf(out), xp.where(x > 0, xp.zeros_like(x) + inf, xp.zeros_like(x) - inf), out)


def normalize(
    x: Any,
    method: Literal["min_max", "none", "robust", "standard", "zero_mean"] = "standard",
    *,
    mask: Any = None,
    ddof: int = 1,
) -> Any:
    """Advantages (N,) on a common scale; 0 where masked.

    ``standard``: less the mean, by the standard deviation (``ddof`` 1: unbiased, 0: population). ``zero_mean``:
    less the mean. ``min_max``: to 0..1. ``robust``: less the median (the true one, the mean of the middle two), by
    the median absolute deviation without a factor. A spread of 0 divides by 1, and ``min_max`` gives zeros.
    """
    checks.one_of("method", method, NORMALIZATIONS)
    checks.whole("ddof", ddof, low=0, high=1)
    xp = namespace(x)
    if method == "none":
        return x
    chosen = x if mask is None else x[mask]
    if chosen.shape[0] == 0:
        return xp.zeros_like(x)
    if method == "min_max":
        low, high = xp.min(chosen), xp.max(chosen)
        out = (x - low) / xp.where(high - low < _FLAT, xp.ones_like(low), high - low)
        out = xp.where(high - low < _FLAT, xp.zeros_like(x), out)
    elif method == "robust":
        centre = _quantile(xp, chosen, 0.5)
        out = (x - centre) / _spread(xp, _quantile(xp, xp.abs(chosen - centre), 0.5))
    else:
        mean = xp.mean(chosen)
        out = x - mean
        if method == "standard":
            count = max(chosen.shape[0] - ddof, 1)
            out = out / _spread(xp, xp.sqrt(xp.sum((chosen - mean) ** 2) / count))
    return out if mask is None else xp.where(mask, out, xp.zeros_like(out))


def clip(
    x: Any,
    method: Literal["asymmetric", "none", "quantile", "sigma", "symmetric"] = "symmetric",
    *,
    limit: float = 3.0,
    below: float | None = None,
    quantiles: tuple[float, float] = (0.05, 0.95),
) -> Any:
    """Advantages (N,) within bounds.

    ``symmetric``: -limit..limit. ``asymmetric``: -below..limit, ``below`` must be given. ``sigma``: within
    ``limit`` unbiased standard deviations of the mean. ``quantile``: within two linear quantiles.
    """
    checks.one_of("method", method, CLIPS)
    xp = namespace(x)
    if method == "none":
        return x
    if method == "asymmetric" and below is None:
        raise ValueError("asymmetric clipping needs below")
    if method == "quantile":
        low, high = (_quantile(xp, x, q) for q in quantiles)
    elif method == "sigma":
        mean = xp.mean(x)
        deviation = xp.sqrt(xp.sum((x - mean) ** 2) / max(x.shape[0] - 1, 1))
        low, high = mean - limit * deviation, mean + limit * deviation
    else:
        low = xp.zeros_like(x) - (limit if below is None or method == "symmetric" else below)
        high = xp.zeros_like(x) + limit
    return xp.minimum(xp.maximum(x, low), high)


def treat_negative(x: Any, method: Literal["abs", "clamp", "exp", "keep", "relu", "shift", "softplus"]) -> Any:
    """Advantages (N,) with their negatives treated.

    ``keep``; ``relu`` = ``clamp``: max(x, 0); ``softplus``: log(1 + e^x); ``shift``: so that the least is 0.001,
    if any is negative; ``exp``: e^min(x, 10); ``abs``: |x|, which makes bad as good as good. All but ``keep``,
    ``relu`` and ``clamp`` leave nothing at or below 0: an indicator of their sign is always positive.
    """
    checks.one_of("method", method, SIGNS)
    xp = namespace(x)
    if method == "keep":
        return x
    if method == "abs":
        return xp.abs(x)
    if method == "softplus":
        return xp.log1p(xp.exp(-xp.abs(x))) + xp.maximum(x, xp.zeros_like(x))
    if method == "exp":
        return xp.exp(xp.minimum(x, xp.zeros_like(x) + 10))
    if method == "shift":
        low = xp.min(x)
        return xp.where(low < 0, x - low + 1e-3, x)
    return xp.maximum(x, xp.zeros_like(x))


def awr_weights(advantages: Any, *, beta: float = 1.0, max_weight: float = 20.0) -> Any:
    """``min(exp(A / beta), max_weight)``: advantage-weighted regression (arXiv 1910.00177)."""
    xp = namespace(advantages)
    bound = math.log(max_weight)
    scaled = advantages / beta
    return xp.exp(xp.minimum(scaled, xp.zeros_like(scaled) + bound))


def ppo_loss(
    log_new: Any,
    log_old: Any,
    advantages: Any,
    *,
    level: Literal["chunk", "token"],
    mask: Any = None,
    epsilon: float = 0.2,
) -> Any:
    """The clipped surrogate (arXiv 1707.06347), a scalar.

    ``log_new`` and ``log_old`` are (B, L), per token or step; ``advantages`` is (B,).

    - ``token``: a ratio for each token, clipped by itself; the mean over all tokens that count.
    - ``chunk``: one ratio for each row, of the product of its probabilities; the mean over rows. It is another
      algorithm, not another mean.

    What is masked has no part in it, be it infinite or NaN; a row of which nothing counts is no row. Where nothing
    at all counts the loss is 0.
    """
    checks.one_of("level", level, ("chunk", "token"))
    xp = namespace(log_new)
    difference = log_new - log_old
    zeros, ones = xp.zeros_like(difference), xp.ones_like(difference)
    counts = ones if mask is None else xp.where(mask, ones, zeros)
    # Masked values become 0 before they are multiplied: 0 times NaN, also in a gradient, is NaN.
    difference = xp.where(counts > 0, difference, zeros)
    if level == "chunk":
        counts = xp.where(xp.sum(counts, axis=1) > 0, ones[:, 0], zeros[:, 0])
        ratio, gain = xp.exp(xp.sum(difference, axis=1)), xp.where(counts > 0, advantages, zeros[:, 0])
    else:
        ratio, gain = xp.exp(difference), xp.where(counts > 0, advantages[:, None], zeros)
    clipped = xp.minimum(
        xp.maximum(ratio, xp.zeros_like(ratio) + (1 - epsilon)), xp.zeros_like(ratio) + (1 + epsilon)
    )
    total = xp.sum(counts)
    return xp.sum(-xp.minimum(ratio * gain, clipped * gain)) / xp.where(total > 0, total, xp.ones_like(total))


def cfg_losses(conditional: Any, unconditional: Any, advantages: Any, *, alpha: float = 0.1) -> Any:
    """(B,): ``1[A > 0] L_conditional + alpha L_unconditional``, of losses with the same noise and time."""
    xp = namespace(conditional)
    return xp.where(advantages > 0, conditional, xp.zeros_like(conditional)) + alpha * unconditional


def bin_cross_entropy(logits: Any, targets: Any) -> Any:
    """(B,): cross-entropy of logits (B, b) with target distributions (B, b), one-hot, two-hot or HL-Gauss."""
    xp = namespace(logits)
    return -xp.sum(targets * _log_softmax(xp, logits), axis=1)


def expected_values(logits: Any, centres: Any) -> Any:
    """(B,): the mean of the bins' centres (b,) under logits (B, b)."""
    xp = namespace(logits)
    return xp.sum(xp.exp(_log_softmax(xp, logits)) * centres, axis=1)


def progress_weights(deltas: Any, *, mean: float, deviation: float, kappa: float = 0.01) -> Any:
    """(B,): lerobot's RA-BC weights of progress made in a chunk, before they are normalised to a mean of 1.

    1 above ``kappa``, 0 below 0, in between ``clip((d - (mean - 2 dev)) / (4 dev + 1e-6), 0, 1)``; 1 for NaN.
    lerobot takes ``max(mean, 0)`` and ``max(dev, 1e-6)`` of all deltas, population.
    """
    xp = namespace(deltas)
    zero = xp.zeros_like(deltas)
    mean, deviation = max(mean, 0.0), max(deviation, 1e-6)
    soft = (deltas - (mean - 2 * deviation)) / (4 * deviation + 1e-6)
    soft = xp.minimum(xp.maximum(soft, zero), zero + 1)
    weight = xp.where(deltas > kappa, zero + 1, xp.where(deltas >= 0, soft, zero))
    return xp.where(xp.isnan(deltas), xp.ones_like(deltas), weight)


def _log_softmax(xp: Any, logits: Any) -> Any:
    shifted = logits - _row_max(xp, logits)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=1))[:, None]


def _row_max(xp: Any, x: Any) -> Any:
    return xp.amax(x, dim=1, keepdim=True) if xp.__name__ == "torch" else xp.max(x, axis=1, keepdims=True)


def _quantile(xp: Any, x: Any, q: float) -> Any:
    """The linear quantile of (N,), as a scalar array."""
    sorted_x = xp.sort(x)
    if isinstance(sorted_x, tuple):  # torch gives the order as well
        sorted_x = sorted_x[0]
    at = q * (x.shape[0] - 1)
    low = math.floor(at)
    high = min(low + 1, x.shape[0] - 1)
    return sorted_x[low] + (at - low) * (sorted_x[high] - sorted_x[low])


def _spread(xp: Any, spread: Any) -> Any:
    return xp.where(spread < _FLAT, xp.ones_like(spread), spread)
