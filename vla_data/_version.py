"""The version, in one place, and what it is the version of."""

from typing import Final

__version__: Final = "0.1.0"

PACKAGES: Final = ("builders", "converters", "training_adapters", "vla_data")
"""Top-level packages of this distribution. Their code counts by the version."""
