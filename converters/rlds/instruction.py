"""Where the instruction of an RLDS dataset is, and what it says of each step."""

from __future__ import annotations

from collections.abc import Iterable

from converters.rlds import names, values
from converters.rlds.features import Leaf
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import instruction as checked
from vla_data.safety.text import show

_SHOWN = 400


def find(leaves: Iterable[Leaf], wanted: str | None, *, task: str | None, rate_is_known: bool) -> Leaf | None:
    """The feature that is the instruction, or None where there is none by declaration.

    Args:
        leaves: of the dataset.
        wanted: its path, in the record or below ``steps``; "": there is none; None: by its name.
        task: what is taken where there is none.
        rate_is_known: whether the control rate need not be declared too.

    Raises:
        UsageError: E231 when none has such a name, with all that must be declared; E003 for a path of no text.
    """
    known = {leaf.path: leaf for leaf in leaves if leaf.kind != "unread"}
    texts = ", ".join(show(path) for path, leaf in known.items() if leaf.kind == "text")[:_SHOWN]
    if wanted == "":
        return None
    if wanted is None:
        found = next((path for path in names.INSTRUCTIONS if path in known), None)
        if found is None and task is None:
            among = f" among {texts}" if texts else ""
            rate = "" if rate_is_known else "; and the control rate, which RLDS does not say (--fps)"
            raise UsageError(
                "E231",
                f"no feature has the name of an instruction; say which one is it{among} (--instruction PATH), "
                f"or give one for all (--task TEXT){rate}",
            )
        if found is None:
            return None
        wanted = found
    named = f"steps/{wanted}" if f"steps/{wanted}" in known else wanted
    leaf = known.get(named)
    if leaf is None or leaf.kind != "text" or len((*leaf.lists, *leaf.shape)) > 1:
        raise UsageError(
            "E003",
            f"{show(named)} is not a text of each step or of the episode; such texts are: {texts or 'none'}",
        )
    return leaf


def texts_of(
    leaf: Leaf | None, record: values.Record, steps: int, *, task: str | None, allow_empty: bool
) -> list[str]:
    """The instruction of every step.

    Args:
        leaf: the feature, or None: ``task`` alone.
        record: of an episode.
        steps: of it.
        task: what is taken where the text is empty.
        allow_empty: keep empty texts.

    Raises:
        DataError: E211 for no text, or several of one step; E212 for one that can't be stored.
    """
    if leaf is None:
        return [task or ""] * steps
    found = [values.text(item, leaf.path) for item in values.strings(leaf, record)]
    if not leaf.in_steps and len(found) == 1:
        found *= steps
    if len(found) != steps:
        raise DataError(
            "E211",
            f"{show(leaf.path)} has {len(found):,} texts for {steps:,} steps; declare another one (--instruction)",
        )
    if task is not None:
        found = [text if text.strip() else task for text in found]
    for text in set(found):
        checked(text, allow_empty=allow_empty)
    return found
