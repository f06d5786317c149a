"""What a dataset looks like, for a person."""

from vla_data.jobs.report import Report

__all__ = ["Report"]
