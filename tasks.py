"""linklab's commands, as Invoke tasks: `invoke --list` is the table of contents.

Each is declared in a module of `linklab/tasks/`.
"""

from __future__ import annotations

import sys

from invoke.collection import Collection
from invoke.tasks import Task

from linklab.commands.boundary import end_as_unix_tools_do, refuse_unknown
from linklab.commands.words import take_words
from linklab.tasks import build, check, compare, develop, guest, judge, measure, results

_MODULES = (build, check, compare, develop, guest, judge, measure, results)

namespace = Collection(
    *(task for module in _MODULES for task in vars(module).values() if isinstance(task, Task))
)
end_as_unix_tools_do()
take_words(namespace, sys.argv, results.report.name)
refuse_unknown(namespace, sys.argv)
