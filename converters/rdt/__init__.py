"""RDT's training data: HDF5 files with the unified vector of 128 slots."""
