"""RLDS datasets in TFDS's form, without TensorFlow."""

from importlib import import_module


def __getattr__(name: str) -> object:
    """`RldsSink`, which this module had when it was one; it loads what that needs."""
    if name == "RldsSink":
        return import_module("converters.rlds.sink").RldsSink
    raise AttributeError(name)
