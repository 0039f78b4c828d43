"""The process that does a part of a batch: `python -m linklab.fleet FOLDER`."""

import sys
from pathlib import Path

from linklab.fleet.worker import main

main(Path(sys.argv[1]))
