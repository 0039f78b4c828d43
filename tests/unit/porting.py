"""A series and a source in miniature: files by name, each state of them a commit of real git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from linklab.kernel.gitstore import GitStore
from linklab.kernel.series import Patch
from linklab.port.engine import Tried, port
from linklab.port.outcome import PatchOutcome
from linklab.port.tree import Tree
from linklab.port.trial import Merger

Files = Mapping[str, str | bytes | None]
"""Content by path; None removes a file, a path that ends with * makes it executable."""

FUNCTIONS = "".join(
    f"int {name}(int a)\n{{\n\tint {name}_result = 0;\n\n\t{name}_prepare(a);\n"
    f"\t{name}_work(a);\n\t{name}_finish(a);\n\n\treturn {name}_result;\n}}\n\n"
    for name in ("alpha", "beta", "gamma", "delta")
)
"""A file of four functions that differ by their names."""


def git(folder: Path, *words: str | Path, stdin: bytes | None = None) -> bytes:
    """Run git for itself: nobody's configuration takes part."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "LC_ALL": "C",
           "GIT_COMMITTER_NAME": "c", "GIT_COMMITTER_EMAIL": "c@example.org",
           "GIT_AUTHOR_NAME": "Ané Person", "GIT_AUTHOR_EMAIL": "ane@example.org",
           "GIT_AUTHOR_DATE": "1700000000 +0200"}  # fmt: skip
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *map(str, words)], cwd=folder, env={**clean, **own}, input=stdin,
        check=True, capture_output=True,
    )  # fmt: skip
    return done.stdout


def small_patch(number: int, subject: str, diff: bytes) -> Patch:
    """Return a patch of which only these matter."""
    return Patch(number, number, 1, subject, "", "", "", "", diff, Path("x.patch"))


class Workshop:
    """A folder in which a series is made on one state of a source, and tried on another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = folder / "repo"
        self.repo.mkdir(parents=True)
        git(self.repo, "init", "--quiet")
        self.store = GitStore(folder / "store")
        self.store.create()

    def write(self, files: Files) -> None:
        """Change the work tree."""
        for name, content in files.items():
            path = self.repo / name.rstrip("*")
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(0o755 if name.endswith("*") else 0o644)

    def commit(self, files: Files, message: str = "a change") -> str:
        """Commit a change of some files; an empty one too."""
        self.write(files)
        git(self.repo, "add", "--all")
        git(self.repo, "commit", "--quiet", "--allow-empty", "-m", message)
        return git(self.repo, "rev-parse", "HEAD").decode().strip()

    def series(self, base: Files, *changes: Files) -> list[Patch]:
        """Return a patch for each change, the first one on `base`."""
        self.commit(base, "base")
        patches = []
        for number, change in enumerate(changes, 1):
            self.commit(change, f"net: change {number}")
            diff = git(self.repo, "show", "--format=", "--binary", "-M", "-C", "HEAD")
            patches.append(small_patch(number, f"net: change {number}", diff))
        return patches

    def source(self, files: Files) -> Tree:
        """Return a source of these files in a repository that knows nothing of the series."""
        return Tree(self.store, self.tree_of(files))

    def tree_of(self, files: Files) -> str:
        """Return the name of a tree of these files."""
        index = self.folder / "index"
        index.unlink(missing_ok=True)
        lines = []
        for name, content in files.items():
            assert content is not None
            data = content if isinstance(content, bytes) else content.encode()
            blob = self.store.git(["hash-object", "-w", "--stdin"], stdin=data).text
            mode = "100755" if name.endswith("*") else "100644"
            lines.append(f"{mode} {blob}\t{name.rstrip('*')}\n")
        listing = "".join(lines).encode()
        self.store.git(["update-index", "--index-info"], index=index, stdin=listing)
        return self.store.write_tree(index)

    def tried(self, patches: Sequence[Patch], onto: Files) -> tuple[list[Tried], Tree]:
        """Try a series on a source of these files."""
        tree = self.source(onto)
        return list(port(patches, tree, Merger(self.store))), tree

    def outcomes(self, patches: Sequence[Patch], onto: Files) -> list[PatchOutcome]:
        """Return what becomes of each patch on a source of these files."""
        return [tried.outcome for tried in self.tried(patches, onto)[0]]


def words(outcomes: Sequence[PatchOutcome]) -> list[str]:
    """Return the outcomes' words, to compare."""
    return [outcome.status.value for outcome in outcomes]
