"""OpenTau's ``meta/advantages.json`` (TensorAuto/OpenTau, ``scripts/get_advantage_and_percentiles.py``).

    {
        "0,0.0": "-0.002500",
        "0,0.10000000149011612": "-0.012345"
    }

The key is the episode and the float32 timestamp in the shortest digits of its float64; the value a string with six
decimals. OpenTau looks a frame up as ``.get((episode, timestamp.item()), 0)``: a key that differs in a digit is an
advantage of 0, silently. It takes the value as bfloat16 and calls ``value >= policy.advantage_threshold``
positive, with one threshold for all tasks, a Python number that torch rounds to bfloat16 too. So:

- thresholds of tasks are taken off the values, and the threshold to type is 0;
- a forced positive that would not be positive is raised to the least value that is; both are counted;
- how many other labels bfloat16 and six decimals turn around is counted as ``flipped``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from vla_data.advantages.annotation import Annotation
from vla_data.advantages.format import Exchanged, Written, batches, file_of, plain
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.join import cover, place
from vla_data.advantages.numbers.flat import Floats, Ints
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

FILE: Final = "meta/advantages.json"
_TOLERANCE: Final = 1e-4  # seconds, LeRobot's own for timestamps
_MAX_BYTES: Final = 1 << 30


def write(annotation: Annotation, table: FrameTable) -> Written:
    """All frames; ``facts`` has the ``advantage_threshold`` to type into OpenTau's policy configuration."""
    values, facts = annotation.advantages, {}
    epsilons = annotation.epsilons(table)
    if annotation.thresholds is not None and epsilons is not None:
        per_task = bool(annotation.thresholds["per_task"])
        if per_task:
            values = values - epsilons
        limit = 0.0 if per_task else float(epsilons[0])
        values = np.round(values, 6)
        raised = np.zeros(len(values), dtype=np.bool_)
        if annotation.forced is not None:
            raised = annotation.forced & ~seen_positive(values, limit)
            values = np.where(raised, least_positive(limit), values)
        flipped = seen_positive(values, limit) != annotation.positive
        facts = {
            "advantage_threshold": limit,
            "shifted_by_task": per_task,
            "forced_raised": int(raised.sum()),
            "flipped": int(flipped.sum()),
        }
    return Written(files={FILE: _text(values, table)}, facts=facts)


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written."""
    del tag  # there is one file a dataset
    return (FILE,)


def seen_positive(values: Floats, limit: float) -> Any:
    """(N,) bool: what OpenTau will call positive, with its bfloat16.

    torch compares a tensor with a Python number in the tensor's dtype, so both are rounded.
    """
    return bfloat16(values) >= bfloat16(np.array(limit, dtype=np.float64))


def least_positive(limit: float) -> float:
    """The least value of six decimals that OpenTau calls positive."""
    # What rounds to the same bfloat16 is within 1/128; below that nothing is positive, above it all is.
    reach = abs(limit) / 128
    low, high = int(np.floor((limit - reach) * 1e6)) - 1, int(np.ceil((limit + reach) * 1e6)) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if seen_positive(np.array([middle / 1e6]), limit)[0]:
            high = middle
        else:
            low = middle
    return high / 1e6


def bfloat16(values: Floats) -> Floats:
    """Rounded to 8 bits of mantissa, half to even, as torch does it from float32."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return kept.astype(np.uint32).view(np.float32).astype(np.float64)


def _text(values: Floats, table: FrameTable) -> Iterator[bytes]:
    """The bytes of ``json.dump(..., indent=4)``, in pieces."""
    times, time = np.unique(table.timestamp, return_inverse=True)
    written = [repr(second) for second in plain(times.astype(np.float64))]
    time, episode = time.reshape(-1), table.episode_index
    start = "{\n"
    for rows in batches(len(values)):
        lines = [
            f'    "{e},{written[t]}": "{v:.6f}"'
            for e, t, v in zip(plain(episode[rows]), plain(time[rows]), plain(values[rows]), strict=True)
        ]
        yield (start + ",\n".join(lines)).encode()
        start = ",\n"
    yield b"\n}" if start != "{\n" else b"{}"


def read(table: FrameTable, tag: str | None = None) -> Exchanged:
    """By the nearest frame within 0.1 ms; keys that OpenTau itself would not find are ``inexact``.

    Raises:
        UsageError: E003 without the file, E302 when it is something else.
    """
    del tag  # there is one file a dataset
    try:
        found = strict_json.loads(read_file(file_of(table.root, FILE), root=table.root)[0], name=FILE)
    except DataError as error:
        raise UsageError("E302", f"{FILE}: {error.message}") from None
    if not isinstance(found, dict):
        raise UsageError("E302", f"{FILE} is not a JSON object")
    keys, values = [], []
    for key, value in found.items():
        episode, comma, second = key.partition(",")
        try:
            if not comma or isinstance(value, bool) or not isinstance(value, str | float | int):
                raise ValueError
            keys.append((int(episode), float(second)))
            values.append(float(value))
        except ValueError:
            raise UsageError("E302", f"{FILE} has {show(key[:60])}: {show(str(value)[:40])}") from None
    episodes = np.array([key[0] for key in keys], dtype=np.int64)
    times = np.array([key[1] for key in keys], dtype=np.float64)
    numbers = np.array(values, dtype=np.float64)
    bad = int(np.count_nonzero(~np.isfinite(numbers)) + np.count_nonzero(~np.isfinite(times)))
    if bad:
        raise UsageError("E302", f"{FILE}: {bad:,} of {len(numbers):,} entries are not finite")
    rows = _nearest(table, episodes, times)
    stored = table.timestamp[np.maximum(rows, 0)].astype(np.float64)
    rows = np.where(np.abs(stored - times) <= _TOLERANCE, rows, -1)
    return Exchanged(
        layout="opentau",
        files=(FILE,),
        coverage=cover(table, rows, inexact=stored != times),
        advantages=place(rows, numbers, len(table)),
    )


def _nearest(table: FrameTable, episodes: Ints, times: Floats) -> Ints:
    """The row of the frame that is nearest in time, -1 where the episode is not in the dataset.

    Timestamps are the dataset's own, not ``frame / fps``: some datasets do not start at 0.
    """
    first = table.rows(episodes, np.zeros(len(episodes), dtype=np.int64))
    rank = np.searchsorted(table.episodes.starts, first, side="right") - 1
    stored = table.timestamp.astype(np.float64)
    low, high = stored.min(), stored.max()
    span = high - low + 4.0  # episodes one after another on one axis, seconds apart
    axis = table.episodes.per_frame(np.arange(len(table.episodes))) * span + (stored - low)
    wanted = rank * span + np.clip(times - low, -1.0, high - low + 1.0)
    after = np.clip(np.searchsorted(axis, wanted), 1, len(axis) - 1) if len(axis) > 1 else np.zeros_like(rank)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted - axis[before] <= axis[after] - wanted, before, after)
    return np.where(first >= 0, nearest, -1)
