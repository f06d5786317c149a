"""Rollouts of ript-vla's runners, pickled as they come: read."""
