"""RLDS datasets in TFDS's form, without TensorFlow."""

from vla_data import former_names


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
