"""``python -m artune``."""

import gc
import sys

from artune.cli import main

# A command's imports make a million objects and no garbage. Looking for some every 700 of them, and once more through
# all at the end, takes a second of a command that lasts ten.
gc.set_threshold(50_000, 10, 10)
status = main()
gc.freeze()
sys.exit(status)
