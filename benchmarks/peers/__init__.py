"""The other tools' way of doing the same work, one file per tool."""
