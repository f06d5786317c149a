"""Rollouts, recorded while they happen."""

from vla_data.recording.episode import OpenEpisode
from vla_data.recording.vector import VectorRecorder
from vla_data.recording.writer import LostEpisode, RolloutWriter

__all__ = ["LostEpisode", "OpenEpisode", "RolloutWriter", "VectorRecorder"]
