"""apt-get and apt-cache of a test's own: packages in a folder, lists that may be old."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

APT_CACHE = """#!/bin/sh
# Shows a package from the lists: the system's, or those that the options name.
echo "apt-cache $*" >>{log}
lists={system}
for word; do
	case $word in
	Dir::State::Lists=*) lists=${{word#*=}} ;;
	esac
	name=$word
done
cat "$lists/$name" 2>/dev/null || exit 100
"""

APT_GET = """#!/bin/sh
echo "apt-get $*" >>{log}
lists={system}
for word; do
	case $word in
	Dir::State::Lists=*) lists=${{word#*=}} ;;
	download | update) what=$word ;;
	esac
	last=$word
done
if [ $what = update ]; then
	cp {archive}/lists/* "$lists"/
	exit
fi
file={archive}/pool/${{last%=*}}_${{last#*=}}_amd64.deb
[ -e "$file" ] || {{ echo "E: Failed to fetch $last  404  Not Found" >&2; exit 100; }}
cp "$file" .
"""


class FakeApt:
    """The archive is what there is to fetch; the system's lists are what apt was told last."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folder / "root"
        self.archive = folder / "archive"
        self.system = self.root / "var/lib/apt/lists"
        self.log = folder / "apt.log"
        programs = folder / "programs"
        for made in (self.system, self.archive / "lists", self.archive / "pool", programs):
            made.mkdir(parents=True)
        for name, text in (("apt-cache", APT_CACHE), ("apt-get", APT_GET)):
            script = text.format(log=self.log, system=self.system, archive=self.archive)
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        self.log.touch()
        path = f"{programs}:{Path(str(shutil.which('sh'))).parent}"
        monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")

    @property
    def calls(self) -> str:
        """Every command line that apt was given."""
        return self.log.read_text()

    def add(self, name: str, version: str, depends: str = "", file: Path | None = None) -> None:
        """Put a package into the archive and its lists."""
        stanza = f"Package: {name}\nVersion: {version}\nDepends: {depends}\nSHA256: of-{version}\n"
        (self.archive / "lists" / name).write_text(f"{stanza}Description: a package\n more of it\n")
        if file is not None:
            shutil.copyfile(file, self.archive / "pool" / f"{name}_{version}_amd64.deb")

    def tell_system(self) -> None:
        """Let the system's lists be the archive's present ones."""
        for file in (self.archive / "lists").iterdir():
            shutil.copyfile(file, self.system / file.name)

    def withdraw(self, name: str, version: str) -> None:
        """Take a version out of the archive, as security updates do."""
        (self.archive / "pool" / f"{name}_{version}_amd64.deb").unlink()


def deb(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Return a package of these files, made by dpkg-deb."""
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    for path, content in {"DEBIAN/control": control.encode(), **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    target = folder / "made.deb"
    subprocess.run(["dpkg-deb", "--build", tree, target], check=True, capture_output=True)
    return target
