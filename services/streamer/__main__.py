"""`python -m services.streamer` serves players."""

import sys

from services.streamer.main import main

sys.exit(main())
