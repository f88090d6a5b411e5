"""`python -m vetted_mw`: the command line."""

import sys

from vetted_mw.cli import main

sys.exit(main())
