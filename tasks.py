"""linklab's commands, as Invoke tasks: `invoke --list` is the table of contents."""

import sys

from linklab import entry

entry.begin(sys.argv[0])  # before what takes long to import

from linklab.commands import cli  # noqa: E402

namespace = cli.namespace(sys.argv)
