"""CALVIN's folders of one npz file a frame: read."""
