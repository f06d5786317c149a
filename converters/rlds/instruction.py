"""Where the instruction of an RLDS dataset is, and what it says of each step."""

from __future__ import annotations

import re
from collections.abc import Iterable

from converters.rlds import names, values
from converters.rlds.features import Leaf
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import instruction as checked
from vla_data.safety.text import show

_SHOWN = 400
_LONGEST = 32
"""Numbers in a row below which they are no codes of characters."""


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
            codes = ", ".join(show(path) for path, leaf in known.items() if _is_codes(leaf))[:_SHOWN]
            found = "; ".join(text for text in (texts, codes and f"{codes} (codes of characters)") if text)
            among = f" among {found}" if found else ""
            rate = "" if rate_is_known else "; and the control rate, which RLDS does not say (--fps NUMBER)"
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
    if leaf is None or not (_is_text(leaf) or _is_codes(leaf)):
        codes = ", ".join(show(path) for path, leaf in known.items() if _is_codes(leaf))[:_SHOWN]
        more = f"; numbers that may be the codes of characters: {codes}" if codes else ""
        raise UsageError(
            "E003",
            f"{show(named)} is not a text of each step or of the episode; such texts are: {texts or 'none'}{more}",
        )
    return leaf


def _is_text(leaf: Leaf) -> bool:
    return leaf.kind == "text" and len((*leaf.lists, *leaf.shape)) <= 1


def _is_codes(leaf: Leaf) -> bool:
    """Whether these may be the bytes of a text as numbers, padded with zeros, as language_table has them."""
    of_bytes = leaf.kind == "tensor" and leaf.dtype in ("int32", "int64", "uint8") and not leaf.lists
    return of_bytes and len(leaf.shape) == 1 and (leaf.shape[0] or 0) >= _LONGEST


def _others(leaf: Leaf, leaves: Iterable[Leaf]) -> tuple[Leaf, ...]:
    """Further wordings of an instruction that was found by its name: DROID's ``language_instruction_2`` and so
    on, of which any may be empty.
    """
    if leaf.path not in names.INSTRUCTIONS:
        return ()
    numbered = re.compile(rf"{re.escape(leaf.path)}_\d+")
    return tuple(other for other in leaves if other.kind == "text" and numbered.fullmatch(other.path))


def texts_of(
    leaf: Leaf | None,
    record: values.Record,
    steps: int,
    *,
    task: str | None,
    allow_empty: bool,
    leaves: Iterable[Leaf] = (),
) -> tuple[list[str], list[str]]:
    """The instruction of every step, and notes. Of several wordings of one instruction, the first that is not
    empty counts.

    Args:
        leaf: the feature, or None: ``task`` alone.
        record: of an episode.
        steps: of it.
        task: what is taken where the text is empty.
        allow_empty: keep empty texts.
        leaves: of the dataset, in which further wordings are looked for where ``leaf`` is empty in every step.

    Raises:
        DataError: E211 for no text, or several of one step; E212 for one that can't be stored.
    """
    if leaf is None:
        return [task or ""] * steps, []
    notes = []
    found = _decoded(leaf, record, steps) if leaf.kind == "tensor" else _texts(leaf, record)
    if not any(map(str.strip, found)):
        for other in _others(leaf, leaves):
            if any(map(str.strip, texts := _texts(other, record))):
                leaf, found = other, texts
                notes.append(f"instruction_of:{other.path}")
                break
    each, rest = divmod(len(found), steps)
    if not leaf.in_steps and found:
        notes += [f"instruction_first_of:{leaf.path}={len(found)}"] if len(found) > 1 else []
        found = [next((text for text in found if text.strip()), "")] * steps
    elif rest == 0 and each > 1:
        notes.append(f"instruction_first_of:{leaf.path}={each}")
        rows = [found[at : at + each] for at in range(0, len(found), each)]
        found = [next((text for text in row if text.strip()), "") for row in rows]
    if len(found) != steps:
        raise DataError(
            "E211",
            f"{show(leaf.path)} has {len(found):,} texts for {steps:,} steps; declare another one (--instruction)",
        )
    if task is not None:
        found = [text if text.strip() else task for text in found]
    for text in set(found):
        checked(text, allow_empty=allow_empty, lines=True)
    return found, notes


def _texts(leaf: Leaf, record: values.Record) -> list[str]:
    return [values.text(item, leaf.path) for item in values.strings(leaf, record)]


def _decoded(leaf: Leaf, record: values.Record, steps: int) -> list[str]:
    """Texts of the codes of their characters, UTF-8 padded with zeros.

    Raises:
        DataError: E212 for numbers that are no bytes of UTF-8.
    """
    rows = values.array(leaf, record, steps if leaf.in_steps else 1)
    if rows.min(initial=0) < 0 or rows.max(initial=0) > 255:
        raise DataError("E212", f"{show(leaf.path)} has numbers that are no bytes of a text")
    return [values.text(memoryview(row.astype("uint8").tobytes().rstrip(b"\0")), leaf.path) for row in rows]
