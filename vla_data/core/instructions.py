"""What others call the instruction of an episode."""

from __future__ import annotations

from typing import Final

NAMES: Final[tuple[str, ...]] = (
    *("language_instruction", "natural_language_instruction", "task_description", "instruction"),
    *("task_instruction", "language", "lang", "prompt", "language_raw", "raw_language", "env_lang"),
)
"""Attributes, datasets and keys that hold an instruction; the first that is there counts."""
