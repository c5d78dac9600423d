"""`python -m services.transcoder.selftest` tests this machine's GPU."""

import sys

from services.transcoder.selftest.run import main

sys.exit(main())
