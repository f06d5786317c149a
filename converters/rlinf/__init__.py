"""Rollouts that RLinf collects, as pickles of observations, actions and what the environment said."""
