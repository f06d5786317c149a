"""Some of a source's episodes, several sources as one, splits, and lists that trainers read."""

from vla_data.selection.subset import Selection

__all__ = ["Selection"]
