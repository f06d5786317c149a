"""HDF5 files as robomimic's trainers read them."""

from importlib import import_module


def __getattr__(name: str) -> object:
    """`RobomimicSink`, which this module had when it was one; it loads what that needs."""
    if name == "RobomimicSink":
        return import_module("converters.robomimic.sink").RobomimicSink
    raise AttributeError(name)
