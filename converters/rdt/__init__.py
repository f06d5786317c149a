"""RDT's training data: HDF5 files with the unified vector of 128 slots."""

from vla_data import former_names


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
