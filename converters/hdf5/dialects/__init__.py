"""One module a kind of HDF5 file: who recorded it decides what its tables are called and mean."""
