"""RLDS datasets in TFDS's form, without TensorFlow."""
