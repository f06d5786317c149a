"""Vector environments: B of them stepped together, each episode recorded by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.errors import RecordError
from vla_data.recording.episode import OpenEpisode
from vla_data.recording.keywords import NO_KEYWORDS

Autoreset = Literal["next_step", "same_step", "disabled"]
ENDS: Final = ("next.terminated", "next.truncated", "next.done")


class VectorRecorder:
    """Records the episodes of B environments that are stepped together.

    An episode begins with the first step of an environment that is added, and ends with the step whose
    ``next.terminated``, ``next.truncated`` or ``next.done`` is true. What happens then is said by gymnasium's
    ``autoreset_mode``:

    - "next_step", its default: the step that ends an episode returns what was seen last, and the next call of
      ``step`` ignores that environment's action and resets it. `add` records nothing of that call for it.
    - "same_step": the step that ends an episode returns the first observation of the next one; what was seen last
      is in ``infos["final_obs"]`` and must be given to `add` as ``final``.
    - "disabled": the step that ends an episode returns what was seen last; the caller resets.

    A recorder belongs to one thread; the episodes of several recorders may be of one writer.

    Args:
        begin: called with the number of an environment, 0 to B-1, for each of its episodes:
            ``lambda i: writer.episode(task=tasks[i], facts={"environment": i})``.
        count: B.
        autoreset: see above.
    """

    def __init__(
        self, begin: Callable[[int], OpenEpisode], count: int, *, autoreset: Autoreset = "next_step"
    ) -> None:
        self._begin = begin
        self._count = checks.whole("count", count, low=1)
        self._mode = checks.one_of("autoreset", autoreset, get_args(Autoreset))
        self._open: dict[int, OpenEpisode] = {}
        self._last: dict[int, Mapping[str, Any]] = {}
        self._resetting: set[int] = set()

    def __len__(self) -> int:
        """How many environments there are."""
        return self._count

    @property
    def open(self) -> Mapping[int, OpenEpisode]:
        """Environment -> its episode that has begun and not ended."""
        return dict(self._open)

    def add(
        self,
        features: Mapping[str, Any],
        after: Mapping[str, Any] | None = None,
        *,
        final: Sequence[Mapping[str, Any] | None] | None = None,
        only: Any = None,
    ) -> dict[int, Path]:
        """Add one step of every environment.

        Args:
            features: as `OpenEpisode.add` takes them, each ``(B, ...)``, a row an environment. At least one of
                ``next.terminated``, ``next.truncated`` and ``next.done`` must be among them.
            after: observations that this step returned, by name, each ``(B, ...)``: what was seen after the
                action. It is kept for the episodes that end. Not with "same_step".
            final: of each environment what it saw last, by name, or None where its episode goes on.
            only: ``(B,)``, True where an environment's row is to be recorded; None: all.

        Returns:
            Environment -> the file of its episode, for those that ended.

        Raises:
            RecordError: as of `OpenEpisode.add`, with the environment; E204 for another number of rows than B. No
                step of the call is recorded.
            MachineError: an episode that ended can't be written. All steps are recorded; `flush` tries again.
        """
        done = self._flush()
        here = self._chosen(only)
        ends = self._ends(features)
        rows = [self._row(features, i) for i in range(self._count)]
        last = {i: self._seen_last(i, after, final) for i in here if ends[i] and i not in self._resetting}
        begun: dict[int, OpenEpisode] = {}
        ready = {}
        try:
            for i in here:
                if i in self._resetting:
                    continue
                episode = self._open[i] if i in self._open else begun.setdefault(i, self._begin(i))
                ready[i] = _told(i, episode._ready, rows[i], NO_KEYWORDS)
                if i in last:
                    last[i] = _told(i, episode._last, ready[i].columns, last[i])
        except BaseException:
            for episode in begun.values():
                episode.discard()
            raise
        self._open |= begun
        self._resetting -= set(here)
        for i, step in ready.items():
            self._open[i]._keep(step)
        self._last |= last
        if self._mode == "next_step":
            self._resetting |= last.keys()
        return {**done, **self._flush()}

    def flush(self) -> dict[int, Path]:
        """Write the ended episodes that could not be written before; see `add`."""
        return self._flush()

    def end(
        self, after: Mapping[str, Any] | None = None, *, facts: Mapping[str, Any] | None = None
    ) -> dict[int, Path]:
        """End the open episodes as they are, for example when collecting stops; see `add` for ``after``.

        Args:
            after: observations that were seen after the last actions, by name, each ``(B, ...)``.
            facts: of each of these episodes.

        Returns:
            Environment -> file.
        """
        done = self._flush()
        for i, episode in list(self._open.items()):
            done[i] = _told(i, episode.end, {} if after is None else self._row(after, i), facts=facts)
            del self._open[i]
        return done

    def discard(self) -> None:
        """Forget the open episodes on purpose."""
        for i, episode in list(self._open.items()):
            episode.discard()
            del self._open[i]
        self._last = {}

    def _flush(self) -> dict[int, Path]:
        out = {}
        for i, last in list(self._last.items()):
            out[i] = self._open[i]._end(last)
            del self._last[i], self._open[i]
        return out

    def _chosen(self, only: Any) -> list[int]:
        if only is None:
            return list(range(self._count))
        mask = np.asarray(only)
        if mask.dtype != np.bool_ or mask.shape != (self._count,):
            raise RecordError(
                "E204", f"only is {mask.dtype}{mask.shape}, not True or False of each of {self._count}"
            )
        return [int(i) for i in np.flatnonzero(mask)]

    def _row(self, values: Mapping[str, Any], i: int) -> dict[str, Any]:
        """The values of one environment."""
        if not isinstance(values, Mapping):
            raise RecordError("E203", f"features are a {type(values).__name__}, not a dictionary")
        return {name: self._rows(name, value)[i] for name, value in values.items()}

    def _rows(self, name: str, value: Any) -> Any:
        if isinstance(value, str) or not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
            raise RecordError("E204", f"{name} is a {type(value).__name__}, not {self._count} rows")
        if len(value) != self._count:
            raise RecordError("E204", f"{name} has {len(value):,} rows for {self._count} environments")
        return value

    def _ends(self, features: Mapping[str, Any]) -> NDArray[np.bool_]:
        out = np.zeros(self._count, dtype=np.bool_)
        known = [name for name in ENDS if name in features]
        if not known:
            raise RecordError("E206", f"give one of {', '.join(ENDS)}: it says where episodes end")
        for name in known:
            flags = np.asarray(self._rows(name, features[name]))
            if flags.dtype != np.bool_ or flags.size != self._count:
                raise RecordError("E205", f"{name} is {flags.dtype}{flags.shape}, not True or False of each")
            out |= flags.reshape(self._count)
        return out

    def _seen_last(
        self, i: int, after: Mapping[str, Any] | None, final: Sequence[Mapping[str, Any] | None] | None
    ) -> Mapping[str, Any]:
        """What the environment saw after its last action."""
        if self._mode != "same_step":
            if final is not None:
                raise RecordError(
                    "E001", f"final works with autoreset same_step; with {self._mode} give after instead"
                )
            return {} if after is None else self._row(after, i)
        if after is not None:
            raise RecordError(
                "E001", "with autoreset same_step, after belongs to the next episode; give final instead"
            )
        last = self._rows("final", final)[i] if final is not None else None
        if last is None:
            hint = "gymnasium has it in infos['final_obs'], {} is to go without"
            raise RecordError("E206", f"environment {i} ended, but final lacks what it saw last; {hint}")
        if not isinstance(last, Mapping):
            raise RecordError("E203", f"final[{i}] is a {type(last).__name__}, not a dictionary of features")
        return last


def _told(i: int, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a call gives; its errors name the environment."""
    try:
        return call(*args, **options)
    except RecordError as error:
        raise RecordError(error.code, f"environment {i}: {error.message}") from None
