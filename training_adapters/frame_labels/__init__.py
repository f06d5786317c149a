"""Advantages as a JSON file with the label of every frame."""
