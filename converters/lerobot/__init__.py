"""LeRobot datasets: v3.0 is written, v3.0, v2.1 and v2.0 are read."""

from vla_data import former_names


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
