"""Demonstrations in HDF5 files; `converters.hdf5.dialects` has a module for each kind."""
