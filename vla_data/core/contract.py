"""What a step must give, and what is taken for granted where it does not say.

A step's result is compared with the schema that its ``describe`` gives, so that nothing that it makes or changes
is lost or stored as something else. What came out of the source in another form than the source's schema says is
no step's fault, and is left to whoever writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from vla_data.core.episode import Episode, Feature, Schema
from vla_data.errors import UsageError

Form = tuple[str, tuple[int, ...]]

BUCKETS: Final = ("pruned", "truncated")


@runtime_checkable
class HasBucket(Protocol):
    """A step that says in which of `BUCKETS` the frames are that it drops."""

    bucket: Any


@runtime_checkable
class HasReason(Protocol):
    """A step that says what the ledger calls the frames or episodes that it drops."""

    reason: Any


def bucket_of(step: object) -> str:
    """``pruned``, unless the step says ``truncated``.

    Raises:
        UsageError: E022 for anything else.
    """
    bucket = step.bucket if isinstance(step, HasBucket) else BUCKETS[0]
    if bucket not in BUCKETS:
        raise UsageError("E022", f"step {_name(step)} has bucket {bucket!r}; a bucket is {' or '.join(BUCKETS)}")
    return str(bucket)


def reason_of(step: object) -> str:
    """The step's ``reason``, or the name of its class as a code: ``DropIdle`` is ``drop_idle``."""
    if isinstance(step, HasReason) and isinstance(step.reason, str):
        return step.reason
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(step).__name__).strip("_").lower()


def verdict_of(step: object, said: object) -> str | None:
    """What ``reject`` said, as a code or None: True stands for the step's own reason, False for None.

    Raises:
        UsageError: E022 for anything else.
    """
    if said is None or isinstance(said, bool | np.bool_):
        return reason_of(step) if said else None
    if not isinstance(said, str) or not said:
        raise UsageError(
            "E022",
            f"step {_name(step)} rejects an episode with {said!r}; give a text, or True for the step's own reason",
        )
    return said


def check_result(step: object, before: Episode, after: object, was: Schema | None, now: Schema | None) -> Episode:
    """The result of a step, if it is what the step says.

    Args:
        step: that gave it.
        before: what it was given.
        after: what it gave.
        was: the schema of ``before``; None: only the result's kind and steps are looked at.
        now: the schema that the step describes.

    Raises:
        UsageError: E022 with the step's name.
    """
    if not isinstance(after, Episode):
        raise UsageError("E022", f"step {_name(step)} returns {type(after).__name__}, not an Episode")
    if after.index is not before.index and not np.isin(after.index, before.index).all():
        raise UsageError("E022", f"step {_name(step)} returns frames that its episode does not have")
    if was is not None and now is not None:
        for problem in _problems(before, after, was, now):
            raise UsageError("E022", f"step {_name(step)}: {problem}")
    return after


def _problems(before: Episode, after: Episode, was: Schema, now: Schema) -> Iterator[str]:
    old, new = _forms(before), _forms(after)
    handed_on = {id(value): name for name, value in _values(before)}
    for name, value in _values(after):
        known = handed_on.get(id(value), name)
        wrong_before = known in old and (known not in was.features or old[known] != _declared(was.features[known]))
        if name not in now.features:
            if name in was.features or not (wrong_before and old[known] == new[name]):
                text = f"its result has {name}, {_told(new[name])} a step"
                yield f"{text}, which the schema does not have; add it in describe(schema)"
        elif new[name] != _declared(now.features[name]) and not (wrong_before and old[known] == new[name]):
            want = _told(_declared(now.features[name]))
            yield f"{name} is {_told(new[name])} a step, the schema says {want}; change it in describe(schema)"
    for name in now.features.keys() - new.keys():
        if name in old or name not in was.features:
            yield f"its result has no {name}, which the schema has; leave it out in describe(schema)"


def _values(episode: Episode) -> Iterator[tuple[str, object]]:
    yield from episode.arrays.items()
    yield from episode.frames.items()


def _forms(episode: Episode) -> dict[str, Form]:
    """Feature -> type and shape of one step."""
    forms: dict[str, Form] = {}
    for name, array in episode.arrays.items():
        kind = "string" if array.dtype.kind == "U" else str(array.dtype)
        forms[name] = (kind, array.shape[1:] or (1,))
    return forms | {name: ("image", (f.height, f.width, 3)) for name, f in episode.frames.items()}


def _declared(feature: Feature) -> Form:
    return feature.dtype, tuple(feature.shape) or (1,)


def _told(form: Form) -> str:
    return f"{form[0]}{form[1]}"


def _name(step: object) -> str:
    return type(step).__qualname__
