"""The clipped loss of chunks, in whatever framework the arrays are of.

``xp`` is the arrays' module: ``torch``, ``jax.numpy`` or ``numpy``. Gradients are the framework's own.
"""

from __future__ import annotations

from typing import Any, Final

from vla_data import options as checks

RATIOS: Final = ("chunk", "token")


def log_ratio(new: Any, old: Any, mask: Any, *, per: str = "chunk") -> Any:
    """``log(new / old)``: ``(B,)`` of whole chunks, or ``(B, L)`` of tokens.

    Args:
        new: ``(B, L)`` log-probabilities of the stored tokens now.
        old: ``(B, L)``, when they were sampled.
        mask: ``(B, L)``, 1 where there is a token.
        per: ``chunk`` or ``token``.
    """
    checks.one_of("per", per, RATIOS)
    difference = (new - old) * mask
    return difference.sum(-1) if per == "chunk" else difference


def clipped(new: Any, old: Any, mask: Any, advantage: Any, *, clip: float, per: str, xp: Any) -> Any:
    """``(B,)``: ``-min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)``, of chunks or as the mean over their tokens.

    Args:
        new: ``(B, L)``; see `log_ratio`.
        old: ``(B, L)``.
        mask: ``(B, L)``.
        advantage: ``(B,)``.
        clip: how far the ratio counts.
        per: ``chunk``: the ratio is of the chunk, the product of its tokens'. ``token``: each token has its own,
            and the chunk's advantage.
        xp: module of the arrays.
    """
    ratio = xp.exp(log_ratio(new, old, mask, per=per))
    weight = advantage if per == "chunk" else advantage[:, None]
    loss = -xp.minimum(ratio * weight, xp.clip(ratio, 1 - clip, 1 + clip) * weight)
    return loss if per == "chunk" else (loss * mask).sum(-1) / mask.sum(-1)


def divergence(new: Any, old: Any, mask: Any, *, xp: Any) -> Any:
    """``(B,)``: an estimate of KL(old, new) of chunks that is never below 0: ``ratio - 1 - log ratio``.

    J. Schulman, 2020, http://joschu.net/blog/kl-approx.html, the third estimator.
    """
    log = log_ratio(new, old, mask)
    return xp.exp(log) - 1 - log
