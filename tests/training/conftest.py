"""MuJoCo decides when it is imported how it renders; there is no display here."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")
