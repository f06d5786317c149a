"""How a process asks glibc for memory and gives it back. Elsewhere than on Linux with glibc nothing happens."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# From glibc's <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4


def keep() -> None:
    """Keep what is freed for what comes next.

    A rollout's 70 MB would be mapped and unmapped anew each time; page faults cost a third of a job then.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give what is free back to the system, such as Parquet's metadata of thousands of row groups."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
