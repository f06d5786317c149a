"""Supervised fine-tuning: a policy learns the actions of a dataset."""
