"""Some of a source's episodes, several sources as one, splits, and lists that trainers read."""
