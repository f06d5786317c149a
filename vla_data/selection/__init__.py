"""Some of a source's episodes, several sources as one, splits, and lists that trainers read."""

from vla_data import former_names


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
