"""Where things lie: the project, its tests, their data, and real episodes that are not part of the project."""

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
ROOT: Final = TESTS.parent
SHARED: Final = ROOT.parent / "shared/data"
