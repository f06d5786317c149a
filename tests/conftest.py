"""Tests keep their notes about sources to themselves; see `vla_data.jobs.whereabouts`."""

from __future__ import annotations

import os
import tempfile

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="vla-data-tests-")
