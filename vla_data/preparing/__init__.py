"""What a trainer needs beside its code: the dataset in its place, statistics, configuration, command."""

from vla_data.preparing.job import Extras, Preparation, Prepared, prepare

__all__ = ["Extras", "Preparation", "Prepared", "prepare"]
