"""One module per storage format, each with its source, its sink, or both. See `vla_data.formats`."""
