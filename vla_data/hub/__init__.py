"""Datasets on the Hugging Face Hub: what is sent, the card and the machine-readable description beside it."""

from vla_data.hub.push import Pushed, push

__all__ = ["Pushed", "push"]
