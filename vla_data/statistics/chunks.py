"""Actions as a policy predicts them: ``H`` at a time from each step on, absolute or relative to its state."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vla_data.core import Array
from vla_data.errors import DataError, UsageError

Padding = Literal["repeat", "none"]


def action_chunks(
    actions: Array,
    horizon: int,
    *,
    states: Array | None = None,
    delta: tuple[bool, ...] = (),
    padding: Padding = "repeat",
) -> Array:
    """The action chunk of every step.

    Args:
        actions: ``(T, D)``.
        horizon: ``H``, actions in a chunk.
        states: ``(T, S)``; needed with ``delta``.
        delta: for the first ``len(delta)`` elements, whether the state of the chunk's first step is subtracted, in
            the type of the arrays, as openpi's ``DeltaActions`` does (`openpi/transforms.py`).
        padding: ``repeat`` fills chunks that reach beyond the end with the last action, as LeRobot's loader does
            and openpi counts them; ``none`` leaves out what is not there.

    Returns:
        ``(T, H, D)``, or ``(N, 1, D)`` with the ``N`` actions that are there for ``none``.
    """
    steps, width = actions.shape
    places = np.arange(steps)[:, None] + np.arange(horizon)
    there = places < steps
    chunks: Array = actions[np.minimum(places, steps - 1)]
    if delta:
        if states is None:
            raise UsageError("E001", "actions relative to a state need a state")
        if states.shape[1] < len(delta) or width < len(delta):
            raise DataError(
                "E203",
                f"{len(delta)} elements are to be relative, actions have {width} and states {states.shape[1]}",
            )
        chunks[..., : len(delta)] -= np.where(delta, states[:, : len(delta)], 0).astype(chunks.dtype)[:, None]
    return chunks if padding == "repeat" else chunks[there][:, None]


def whole_chunks(actions: Array, horizon: int, states: Array) -> Array:
    """Chunks that are all there, relative to the state of their first step: ``(T - H + 1, H, D)``, maybe none.

    GR00T's relative actions of joints (`gr00t/data/stats.py`).
    """
    if actions.shape != states.shape:
        raise DataError(
            "E203", f"actions {actions.shape} and states {states.shape} must be alike to be subtracted"
        )
    starts = np.arange(max(0, len(actions) - horizon + 1))
    chunks: Array = actions[starts[:, None] + np.arange(horizon)] - states[starts][:, None]
    return chunks


def parse_mask(text: str) -> tuple[bool, ...]:
    """``6,-1`` -> six times yes, once no: openpi's ``make_bool_mask``.

    Raises:
        UsageError: E001 for anything else.
    """
    try:
        lengths = [int(piece) for piece in text.split(",")]
    except ValueError:
        lengths = [0]
    if 0 in lengths or sum(map(abs, lengths)) > 4096:
        raise UsageError("E001", f"{text!r} is no mask like 6,-1, which is six times yes and once no")
    return tuple(n > 0 for n in lengths for _ in range(abs(n)))
