"""`vetted-mw` without its INFO lines, as nginx runs here without its access log; a line of its own has them."""

from __future__ import annotations

import logging
import sys

from vetted_mw.cli import main

logging.disable(logging.INFO)  # at import, so that workers, which are processes of their own, have none either

if __name__ == "__main__":
    sys.exit(main())
