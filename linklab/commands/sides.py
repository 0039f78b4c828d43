"""The two sides of a comparison, as typed: `KERNEL[@SOURCE][+PATCH...]`.

What the second one leaves out it takes from the first, so `+fix.patch` is the
first with that patch on top, and `@v6.13` the same flavour of another commit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.commands.prepare import KernelOptions
from linklab.errors import UsageError
from linklab.kernel.kconfig import flavours

GRAMMAR = "KERNEL[@SOURCE][+PATCH...]"
_WORD = re.compile(r"(?P<kernel>[^@+]*)(@(?P<source>[^+]*))?(?P<patches>(\+[^+]+)*)")
_NAMED = 2  # patches that a label names


@dataclass(frozen=True)
class Side:
    """A kernel of a comparison: what it is called there, and what it is built from."""

    label: str
    options: KernelOptions


def is_kernel(word: str) -> bool:
    """Whether a word can only be meant for a kernel, and not for a stored run."""
    if word in flavours():
        return True
    found = _WORD.fullmatch(word)
    kernel = found["kernel"] if found else word
    return kernel in flavours() or (found is not None and not kernel and bool(word))


def sides(a: str, b: str, common: KernelOptions) -> tuple[Side, Side]:
    """Return both sides of a comparison, checked; nothing is built.

    The `source` and the `configs` of `common` are for both, its `patches` and
    its `range` for the second alone: the first is what they stand on. Raises
    `UsageError` for a word that is no kernel, and for options that are wrong.
    """
    first = _side(a, replace(common, patches=(), range=""), None)
    second = _side(b, common, first)
    if common.range:
        base = second.options.series.base
        first = Side(first.label, replace(first.options, revision=first.options.revision or base))
    return _checked(first, second)


def sides_against(a: KernelOptions, b: str) -> tuple[Side, Side]:
    """Return a kernel and the one that a word names beside it, checked; nothing is built.

    The patches and the range of `a` are the first one's, and the second one's
    where its word leaves kernel and source out. Raises what `sides` does.
    """
    first = _side(a.names, a, None)
    return _checked(first, _side(b, replace(a, patches=(), range=""), first))


def _checked(first: Side, second: Side) -> tuple[Side, Side]:
    """Return both, with two names and one kernel each. Raises `UsageError`."""
    if first.label == second.label:
        second = Side(f"{second.label}#2", second.options)
    for side in (first, second):
        if len(side.options.check()) != 1:
            raise UsageError(f"{side.options.names}: exactly one kernel is expected")
    return first, second


def _side(word: str, common: KernelOptions, base: Side | None) -> Side:
    if word and Path(word).exists() and word not in flavours():
        return Side(_short(word), _as_it_is(word, common))
    found = _WORD.fullmatch(word)
    if found is None or not word:
        raise UsageError(f"{word!r} is no kernel: expected {GRAMMAR}")
    kernel = found["kernel"] or (base.options.names if base else "")
    if not kernel:
        raise UsageError(f"{word} names no kernel: the first one of two must, as {GRAMMAR}")
    options = _sourced(replace(common, names=kernel), found["source"], base)
    own = tuple(filter(None, found["patches"].split("+")))
    before = base.options if base and not found["kernel"] and not found["source"] else None
    if before:
        options = replace(options, range=options.range or before.range)
    options = replace(options, patches=(*(before.patches if before else ()), *own, *common.patches))
    return Side(_label(kernel, found["source"], options), options)


def _sourced(options: KernelOptions, word: str | None, base: Side | None) -> KernelOptions:
    """Return the options with the source that a word names: a path, or else a commit."""
    if word is None:
        if base is not None and not options.range and options.names in flavours():
            kept = base.options
            return replace(options, source=kept.source, revision=kept.revision)
        return options
    if Path(word).expanduser().exists():
        return replace(options, source=word)
    if not options.source:
        raise UsageError(f"@{word}: there is no such source; a commit needs its tree as --source")
    return replace(options, revision=word)


def _as_it_is(word: str, common: KernelOptions) -> KernelOptions:
    """Return the options of a kernel that is not built: those for building are for the other."""
    patched = bool(common.patches or common.range)
    return replace(common, names=word) if patched else KernelOptions(word, modules=common.modules)


def _label(kernel: str, source: str | None, options: KernelOptions) -> str:
    parts = [_short(kernel)]
    if source is not None:
        parts.append(f"@{_short(source)}")
    if options.range:
        parts.append(f"+{options.range}")
    return "".join(parts) + _patches_label(options.patches)


def _patches_label(patches: Sequence[str]) -> str:
    if len(patches) > _NAMED:
        return f"+{len(patches)} patches"
    return "".join(f"+{Path(patch).name}" for patch in patches)


def _short(word: str) -> str:
    """Return a flavour or a commit as it is, of a path its end: a folder says little alone."""
    path = Path(word).expanduser()
    if word in flavours() or not path.exists():
        return word
    return path.resolve().name
