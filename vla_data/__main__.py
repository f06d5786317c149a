"""``python -m vla_data``."""

from vla_data.cli import main

if __name__ == "__main__":
    main()
