"""`python -m softprompt`: the command line without its script."""

import sys

from softprompt.cli import main

sys.exit(main())
