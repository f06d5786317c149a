"""Tests of the training core; scripts/test runs them in an environment with the extra ``train``."""
