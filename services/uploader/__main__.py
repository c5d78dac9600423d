import sys

from services.uploader.main import main

sys.exit(main())
