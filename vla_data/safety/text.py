"""Untrusted text: what may be stored, and how it is shown."""

from __future__ import annotations

import os
import unicodedata
from typing import Final

from vla_data.errors import DataError

MAX_INSTRUCTION: Final = 1024
MAX_LINES: Final = 65_536
_SPACES: Final = "\t\n\r"  # control characters that texts are written with
_UNSAFE_TO_SHOW: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def show(text: object, *, escaped: bool = False) -> str:
    r"""``text`` on one line with everything that could steer a terminal escaped.

    Control characters, bidirectional overrides, surrogates and other invisible characters become ``\x1b`` or
    ``\u202e``, and a backslash becomes two, so that different texts stay different. It does not in a text that is
    ``escaped``, such as the message of an error, which shows what it names.
    """
    line = str(text)
    return plain(line if escaped else line.replace("\\", "\\\\"))


def plain(text: object, *, keep: str = "") -> str:
    """As `show`, but backslashes stay: for text in which names were shown already.

    Args:
        text: what is said.
        keep: characters that stay too, such as the newlines of a table.
    """
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        _escaped(char) if char not in keep and unicodedata.category(char) in _UNSAFE_TO_SHOW else char
        for char in line
    )


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def portable(name: str) -> str:
    """A file name as text that is the same in every locale: UTF-8, with bytes that are none of it escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def instruction(text: str, *, allow_empty: bool = False, lines: bool = False) -> str:
    """``text`` unchanged, if it can be stored as an instruction.

    Args:
        text: from a stranger.
        allow_empty: accept one without a visible character.
        lines: accept tabs, ends of lines and up to 65,536 characters, as texts of published datasets have them.

    Raises:
        DataError: E211 when there is nothing in it, E212 for control characters, lone surrogates, or more
            than 1,024 characters.
    """
    most, spaces = (MAX_LINES, _SPACES) if lines else (MAX_INSTRUCTION, "")
    if len(text) > most:
        raise DataError("E212", f"the instruction has {len(text):,} characters, more than {most:,}")
    for at, char in enumerate(text):
        if unicodedata.category(char) in ("Cc", "Cs") and char not in spaces:
            raise DataError("E212", f"the instruction has the character {show(char)} at {at}")
    if not text.strip() and not allow_empty:
        raise DataError("E211", "the instruction is empty; --task TEXT gives one")
    return text
