"""`python -m services.transcoder.selftest` tries this machine's GPU."""

import sys

from services.transcoder.selftest.run import main

sys.exit(main())
