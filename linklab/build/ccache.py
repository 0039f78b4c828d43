"""ccache, where it is installed: what was compiled before need not be compiled again.

It comes in through PATH, as a link named like the compiler, not through `CC`:
kbuild compiles everything again when the command line changes, so a build can
use it or not as suits.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from linklab.build.kbuild import COMPILER


def ccache_environment(family: Path) -> dict[str, str]:
    """Return what to add to make's environment; nothing where there is no ccache.

    `family` is the folder that source and objects lie in: paths within it are
    taken relative, so that two families share what they have in common.
    """
    program = shutil.which("ccache")
    if program is None:
        return {}
    links = family / "ccache"
    links.mkdir(exist_ok=True)
    link = links / COMPILER
    if not link.is_symlink() or link.readlink() != Path(program):
        with suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(program)
    env = {name: value for name, value in os.environ.items() if name.startswith("CCACHE_")}
    env.update(PATH=f"{links}:{os.environ['PATH']}", CCACHE_BASEDIR=str(family))
    return env
