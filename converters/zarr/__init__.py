"""Replay buffers in zarr, as Diffusion Policy and UMI write them: read."""
