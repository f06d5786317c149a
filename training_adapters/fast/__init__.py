"""Chunks of actions as FAST tokens: a discrete cosine transform, rounding, and byte-pair encoding.

The scheme is that of https://huggingface.co/physical-intelligence/fast, whose files are read and written.
"""

from training_adapters.fast.grammar import Grammar
from training_adapters.fast.tokenizer import Decoded, FastTokenizer

__all__ = ["Decoded", "FastTokenizer", "Grammar"]
