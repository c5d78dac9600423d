import sys

from services.transcoder.main import main

sys.exit(main())
