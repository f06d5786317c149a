"""The version of this package; a test keeps it equal to that of ``pyproject.toml``."""

__version__ = "0.1.0"
