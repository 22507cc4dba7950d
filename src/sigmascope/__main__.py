"""``python -m sigmascope``."""

import sys

from sigmascope.cli import main

sys.exit(main())
