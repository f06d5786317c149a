"""What a dataset looks like, for a person."""

from vla_data import former_names


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
