"""The guest's agent as the host has it: two serial lines, the protocol, netlink messages for links.

Of pyroute2 the lab takes messages alone. Whoever imports one of them imports the
package before, and that all that it offers: 190 modules with sockets and a database,
which takes six times as long as the messages do. So the package is begun here
without that, and completed when something of it is asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

_PACKAGE = "pyroute2"


def _begin_package() -> None:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return  # who imports it says so
    loader = spec.loader
    package = module_from_spec(spec)

    def complete(name: str) -> Any:
        if find_spec(f"{_PACKAGE}.{name}") is not None:
            return import_module(f"{_PACKAGE}.{name}")
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = complete  # PEP 562
    sys.modules[_PACKAGE] = package


if _PACKAGE not in sys.modules:
    _begin_package()
