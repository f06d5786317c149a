"""Advantages in the instruction itself, for any trainer."""
