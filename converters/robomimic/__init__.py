"""HDF5 files as robomimic's trainers read them."""

from vla_data import former_names


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
