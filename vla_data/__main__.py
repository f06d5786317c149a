"""``python -m vla_data``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python has put the current folder first on the path; nothing that a folder of data may hold is imported.
    if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
        del sys.path[0]
    from vla_data.cli import main

    main()
