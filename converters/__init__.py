"""One room per storage format, each with its source, its sink, or both. See `vla_data.formats`."""

from vla_data import former_names

former_names.install()
