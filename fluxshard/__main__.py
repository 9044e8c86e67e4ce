"""`python -m fluxshard`."""

import sys

from fluxshard.main import main

sys.exit(main())
