"""Datasets and rollouts on object stores and other places that fsspec reaches: ``s3://``, ``gs://``, ``hf://``."""
