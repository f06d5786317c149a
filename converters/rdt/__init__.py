"""RDT's training data: HDF5 files with the unified vector of 128 slots."""

from importlib import import_module


def __getattr__(name: str) -> object:
    """`RdtSink`, which this module had when it was one; it loads what that needs."""
    if name == "RdtSink":
        return import_module("converters.rdt.sink").RdtSink
    raise AttributeError(name)
