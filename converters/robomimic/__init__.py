"""HDF5 files as robomimic's trainers read them."""
