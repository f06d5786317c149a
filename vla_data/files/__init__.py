"""The disk, below everything that writes: atomic files, locks, checksums, tables."""
