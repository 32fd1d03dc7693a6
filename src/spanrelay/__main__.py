"""`python -m spanrelay`: the command of the same name."""

import sys

from spanrelay.cli import main

sys.exit(main())
