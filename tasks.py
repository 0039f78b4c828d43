"""linklab's commands, as Invoke tasks: `invoke --list` is the table of contents."""

import sys

from linklab.commands import cli

namespace = cli.namespace(sys.argv)
