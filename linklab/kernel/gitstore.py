"""A private git repository: names trees by their content and writes them out.

Git serves here as an engine, not as a history: it knows which files of a tree
differ from the ones it saw last, names a whole tree by its content, applies
patches, and changes a work tree by writing only the files that differ.  The
last is what makes a rebuild short: make goes by the files' times.

Nothing of the user's own git configuration takes part, and nothing of a
surrounding git (a hook, `git bisect run`) leaks in through the environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import LabError
from linklab.host.cache import discard, drafted, of_this_process
from linklab.host.run import Argv, CommandFailed, Completed, run

_LONG = 1800.0
_PACK = "pack"

_SETTINGS = {
    # Fast to write, a quarter of the size: level 0 costs more in disk than 1 costs in CPU.
    "core.compression": "1",
    "core.looseCompression": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fastimport.unpackLimit": "0",
    "checkout.workers": "0",
    "core.fsync": "none",
}


def git_environment(**own: str) -> dict[str, str | None]:
    """Return what to change in the environment so that only `own` steers git."""
    env: dict[str, str | None] = {name: None for name in os.environ if name.startswith("GIT_")}
    env.update(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
    env.update(own)
    return env


def git_in(folder: Path, argv: Argv, *, check: bool = True) -> Completed:
    """Run git in a person's tree, whoever owns it, without that person's configuration."""
    return run(
        ["git", "-c", "safe.directory=*", *argv],
        cwd=folder,
        env=git_environment(),
        deadline=_LONG,
        check=check,
    )


@dataclass(frozen=True)
class GitStore:
    """A folder with a bare repository `git/` and a work tree, `tree/` unless `work` names another.

    Whoever calls what changes a file here holds the family's lock; so a
    `.lock` file that git finds in its way was left by one that was killed.
    """

    folder: Path
    work: str = "tree"

    @property
    def repository(self) -> Path:
        """The bare repository."""
        return self.folder / "git"

    @property
    def tree(self) -> Path:
        """The work tree: what is compiled. Its path never changes."""
        return self.folder / self.work

    def exists(self) -> bool:
        """Tell whether the repository was made."""
        return self.repository.is_dir()

    def create(self, object_format: str = "sha1") -> None:
        """Make an empty repository, throwing away what was there."""
        discard(self.repository)
        self.folder.mkdir(parents=True, exist_ok=True)
        with drafted(self.repository) as draft:
            argv = ["git", "init", "--quiet", "--bare", "--template="]
            run([*argv, f"--object-format={object_format}", draft], env=git_environment())
            with (draft / "config").open("a") as config:
                for name, value in _SETTINGS.items():
                    section, key = name.split(".")
                    config.write(f"[{section}]\n\t{key} = {value}\n")
            (draft / "info").mkdir(exist_ok=True)

    def git(
        self,
        argv: Argv,
        *,
        index: Path | None = None,
        work_tree: Path | None = None,
        stdin: bytes | None = None,
        check: bool = True,
    ) -> Completed:
        """Run git on this repository, with an index and a work tree where given."""
        own = {"GIT_DIR": str(self.repository)}
        if index is not None:
            own["GIT_INDEX_FILE"] = str(index)
        if work_tree is not None:
            own["GIT_WORK_TREE"] = str(work_tree)
        return run(
            ["git", *argv],
            cwd=work_tree or self.repository,
            env=git_environment(**own),
            stdin=stdin,
            deadline=_LONG,
            check=check,
        )

    def has(self, name: str) -> bool:
        """Tell whether there is an object of that name, as git spells names."""
        return self.git(["cat-file", "-e", name], check=False).returncode == 0

    def files(self, tree: str) -> Iterator[tuple[str, str]]:
        """Yield each file of a tree: its path and the name of its content."""
        listing = self.git(["ls-tree", "-r", "-z", tree]).stdout
        for entry in listing.split(b"\0")[:-1]:
            meta, _, path = entry.partition(b"\t")
            yield os.fsdecode(path), meta.split()[2].decode()

    def changed(self, old: str, new: str) -> list[str]:
        """Return the paths that differ between two trees."""
        out = self.git(["diff-tree", "-r", "-z", "--no-renames", "--name-only", old, new]).stdout
        return [os.fsdecode(path) for path in out.split(b"\0")[:-1]]

    def write_tree(self, index: Path) -> str:
        """Return the name of the tree that an index holds."""
        return self.git(["write-tree"], index=index).text

    def empty_tree(self) -> str:
        """Return the name of the tree without files."""
        return self.git(["mktree"], stdin=b"").text

    def pack(self, tree: str, base: str, folder: Path) -> None:
        """Write all objects of a tree that `base` lacks into a folder, in git's own form."""
        wanted = f"{tree}\n^{base}\n" if base else f"{tree}\n"
        # Deltas that are there are used again; to look for others would take minutes.
        argv = ["pack-objects", "--revs", "--quiet", "--window=0"]
        self.git([*argv, folder / _PACK], stdin=wanted.encode())

    def take(self, folder: Path) -> None:
        """Take what `pack` wrote on another host."""
        own = self.repository / "objects" / "pack"
        own.mkdir(parents=True, exist_ok=True)
        # The index last: with it git finds the rest.
        for file in sorted(folder.glob(f"{_PACK}-*"), key=lambda file: file.suffix == ".idx"):
            if not (own / file.name).exists():
                draft = own / f"tmp_{file.name}"
                shutil.copyfile(file, draft)
                draft.replace(own / file.name)

    @contextmanager
    def scratch_index(self, tree: str) -> Iterator[Path]:
        """Yield a throw-away index that holds a tree."""
        path = self.folder / f"scratch.{of_this_process()}.index"
        try:
            self.git(["read-tree", tree], index=path)
            yield path
        finally:
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".lock").unlink(missing_ok=True)

    def set_tree(self, tree: str) -> None:
        """Make the work tree equal to `tree`, writing only the files that differ.

        Also repairs what an update that was killed, or anybody's hand, left
        behind.  Raises `LabError` when git cannot.
        """
        try:
            self._update(tree)
        except CommandFailed:
            discard(self.tree)
            self._index.unlink(missing_ok=True)
            try:
                self._update(tree)
            except CommandFailed as error:
                raise LabError(
                    f"the source tree {self.tree} cannot be written: "
                    f"remove {self.folder} and try again",
                    error.evidence or error.message,
                ) from error

    @property
    def _index(self) -> Path:
        return self.folder / f"{self.work}.index"

    def _update(self, tree: str) -> None:
        """Let git compare, write and delete.

        `--reset` looks at every file's size and times, so it also puts right
        what an earlier update left half-written; files that neither index
        knows are left by it, hence `clean` after an update that did not end.
        """
        marker = self.folder / f"{self.work}.updating"
        interrupted = marker.exists()
        marker.touch()
        self.tree.mkdir(exist_ok=True)
        self._index.with_name(self._index.name + ".lock").unlink(missing_ok=True)
        self.git(["read-tree", "--reset", "-u", tree], index=self._index, work_tree=self.tree)
        if interrupted:
            self.git(["clean", "-ffdxq"], index=self._index, work_tree=self.tree)
        marker.unlink()
