"""Actions as a policy predicts them: ``H`` at a time from each step on, absolute or relative to its state."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vla_data.core import Array
from vla_data.errors import DataError, UsageError
from vla_data.statistics.vectors import exact_floats

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
            the actions' type, as openpi's ``DeltaActions`` does (`openpi/transforms.py`); integers, booleans and
            half precision, which would wrap or overflow, become the float that holds every one of them.
        padding: ``repeat`` fills chunks that reach beyond the end with the last action, as LeRobot's loader does
            and openpi counts them; ``none`` leaves out what is not there.

    Returns:
        ``(T, H, D)``, or ``(N, 1, D)`` with the ``N`` actions that are there for ``none``.
    """
    steps, width = actions.shape
    places = np.arange(steps)[:, None] + np.arange(horizon)
    there = places < steps
    if delta and states is not None:
        wide, less = _subtractable(actions), _subtractable(states)
        actions = wide if wide is actions else wide.astype(np.result_type(wide, less))
    chunks: Array = actions[np.minimum(places, steps - 1)]
    if delta:
        if states is None:
            raise UsageError("E001", "actions relative to a state need a state")
        if states.shape[1] < len(delta) or width < len(delta):
            raise DataError(
                "E203",
                f"the mask has {len(delta)} elements, actions have {width} and states "
                f"{states.shape[1]}; it must fit both",
            )
        chunks[..., : len(delta)] -= np.where(delta, less[:, : len(delta)], 0).astype(chunks.dtype)[:, None]
    return chunks if padding == "repeat" else chunks[there][:, None]


def whole_chunks(actions: Array, horizon: int, states: Array) -> Array:
    """Chunks that are all there, relative to the state of their first step: ``(T - H + 1, H, D)``, maybe none.

    GR00T's relative actions of joints (`gr00t/data/stats.py`). Integers and half precision become wider floats, as
    in `action_chunks`.
    """
    if actions.shape != states.shape:
        raise DataError(
            "E203",
            f"actions have shape {actions.shape} and states {states.shape}; to be subtracted they must be alike",
        )
    starts = np.arange(max(0, len(actions) - horizon + 1))
    ahead, now = _subtractable(actions), _subtractable(states)
    chunks: Array = ahead[starts[:, None] + np.arange(horizon)] - now[starts][:, None]
    return chunks


def _subtractable(values: Array) -> Array:
    """The same numbers in a float of 32 or 64 bits, in which no difference wraps."""
    return values if values.dtype in (np.float32, np.float64) else exact_floats(values)


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
        raise UsageError("E001", f"{text!r} is not a mask like 6,-1 (six times yes, once no)")
    return tuple(n > 0 for n in lengths for _ in range(abs(n)))
