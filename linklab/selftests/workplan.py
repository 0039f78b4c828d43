"""Self-tests made ready to run: chosen, their kernel's options known, compiled and packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linklab.events import Listener, step
from linklab.host.cache import Cache
from linklab.image.userland import Entry
from linklab.kernel.source import Source
from linklab.selftests.catalogue import Collection, Selftest, choose_tests
from linklab.selftests.checkout import Checkout, checked_out, find_checkout
from linklab.selftests.config import Wanted, wanted_by
from linklab.selftests.headers import build_headers
from linklab.selftests.limits import settings_of
from linklab.selftests.pack import (
    IMAGE,
    Toolbox,
    image_for,
    needs_of_test,
    program_entry,
    static_entries,
)
from linklab.selftests.programs import STEP, Unbuilt, Workshop


@dataclass(frozen=True)
class Ready:
    """A collection's chosen tests, packed.

    `unbuilt` says of programs why they are not there: tests, or what tests
    run. `lacking` names the tools that tests ask for in vain, with Debian's
    package where one is known. `settings` is the text of the collection's file.
    """

    collection: Collection
    tests: tuple[Selftest, ...]
    wanted: Wanted
    settings: str | None
    image: Path = IMAGE
    entries: tuple[Entry, ...] = ()
    unbuilt: Mapping[str, Unbuilt] = field(default_factory=dict)
    lacking: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Workplan:
    """The self-tests of one state of a source that were asked for."""

    checkout: Checkout
    tests: tuple[Selftest, ...]

    @property
    def collections(self) -> list[Collection]:
        """The collections of the tests, in their order."""
        return list({test.collection.name: test.collection for test in self.tests}.values())

    def of(self, collection: Collection) -> tuple[Selftest, ...]:
        """Return the chosen tests of a collection."""
        return tuple(test for test in self.tests if test.collection.name == collection.name)


def plan_tests(source: Source, tree: str, words: Sequence[str], listener: Listener) -> Workplan:
    """Return the tests that words mean. Raises `UsageError` for a word that means none."""
    checkout = find_checkout(source, tree)
    with checked_out(checkout, listener):
        return Workplan(checkout, tuple(choose_tests(checkout, words)))


def config_of(plan: Workplan, collection: Collection, cache: Cache, listener: Listener) -> Wanted:
    """Return what a collection's tests want of their kernel."""
    with checked_out(plan.checkout, listener):
        return wanted_by(plan.checkout, collection.name, cache)


def make_ready(
    plan: Workplan, collection: Collection, toolbox: Toolbox, cache: Cache, listener: Listener
) -> Ready:
    """Compile what a collection's chosen tests need and read all that is packed.

    A program that cannot be compiled is a test's misfortune and no error.
    """
    checkout, tests = plan.checkout, plan.of(collection)
    with checked_out(checkout, listener):
        needs = {test.name: needs_of_test(test, checkout, toolbox) for test in tests}
        names = sorted({name for need in needs.values() for name in need.programs})
        wanted = wanted_by(checkout, collection.name, cache)
        settings = settings_of(checkout, collection.name)
        image = image_for(needs.values())
        static = static_entries(checkout, collection, image)
    built: list[Entry] = []
    failed: dict[str, Unbuilt] = {}
    if names:
        with checked_out(checkout, listener), step(listener, STEP):
            workshop = Workshop(checkout, build_headers(checkout, cache, listener), cache, listener)
            for name in names:
                try:
                    program = workshop.build(collection.name, name)
                    built.append(program_entry(collection.name, name, program))
                except Unbuilt as error:
                    failed[name] = error
    return Ready(
        collection=collection,
        tests=tests,
        wanted=wanted,
        settings=settings,
        image=image,
        entries=(*static, *built),
        unbuilt=failed,
        lacking={test.name: toolbox.lacking(needs[test.name]) for test in tests},
    )
