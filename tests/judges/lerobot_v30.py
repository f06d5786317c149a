"""Run by an interpreter that has stock lerobot: its own converter of v2.1 to v3.0.

Usage: lerobot_v30.py FOLDER. FOLDER/judge/set is of v2.1, and of v3.0 afterwards. Imports nothing of ours.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

try:
    from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset
except ImportError:
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

convert_dataset("judge/set", root=sys.argv[1], push_to_hub=False)
print('JUDGE {"converted": true}')
