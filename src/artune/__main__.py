"""``python -m artune``."""

import sys

from artune.cli import main

sys.exit(main())
