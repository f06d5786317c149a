"""A weight a frame."""
