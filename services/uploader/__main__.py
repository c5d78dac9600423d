import sys

from services.uploader.main import main

sys.exit(main(sys.argv[1:]))
