"""LeRobot datasets: v3.0 is written, v3.0, v2.1 and v2.0 are read."""

from importlib import import_module


def __getattr__(name: str) -> object:
    """`LerobotSink`, which this module had when it was one; it loads what that needs."""
    if name == "LerobotSink":
        return import_module("converters.lerobot.sink").LerobotSink
    raise AttributeError(name)
