"""A guest that is saved when it is ready, and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from stage import PANIC, SHORT, Stage, ask

from linklab.errors import (
    KernelCrashed,
    LabError,
    LinklabError,
)
from linklab.host.cache import Cached
from linklab.lab.session import Session, Snapshot, open_session, save_session

pytestmark = pytest.mark.process


class TestAGuestThatIsSaved:
    def saved(self, stage: Stage, **play: Any) -> Snapshot:
        folder = stage.log.parent / "a saved guest"
        folder.mkdir(exist_ok=True)
        hello = save_session(stage.qemu, stage.spec(**play), folder, 30)
        return Snapshot(Cached(str(folder)), hello)

    @contextmanager
    def resumed(
        self, stage: Stage, saved: Snapshot, limit: float = 30, **play: Any
    ) -> Iterator[Session]:
        with open_session(stage.qemu, stage.spec(**play), stage.log, limit, saved) as opened:
            yield opened

    def verdict(self, stage: Stage, limit: float = 30, **play: Any) -> LinklabError:
        saved = self.saved(stage)
        with (
            pytest.raises(LinklabError) as caught,
            self.resumed(stage, saved, limit, **play) as opened,
        ):
            ask(opened)
        assert str(stage.log) in caught.value.evidence
        return caught.value

    def test_goes_on_where_it_was(self, stage: Stage) -> None:
        saved = self.saved(stage)
        assert saved.hello.release == "6.12.0"
        assert saved.state.exists()
        for _ in range(2):
            with self.resumed(stage, saved) as opened:
                assert opened.hello == saved.hello
                assert opened.boot_seconds > 0
                assert ask(opened) == b"content of /etc/x"

    def test_though_its_greeting_came_torn(self, stage: Stage) -> None:
        torn = [["agent", "@LL1 h 0000\n"]]
        with self.resumed(stage, self.saved(stage, boot=torn)) as opened:
            assert ask(opened) == b"content of /etc/x"

    def test_is_not_taken_for_another(self, stage: Stage) -> None:
        saved = self.saved(stage, boot=[["hello", 5]])
        with (
            pytest.raises(LabError, match="not the one that was saved"),
            self.resumed(stage, saved),
        ):
            raise AssertionError("another guest was let in")

    def test_that_cannot_be_taken_up(self, stage: Stage) -> None:
        verdict = self.verdict(stage, migrate=[["migration", "failed"]])
        assert type(verdict) is LabError
        assert "migration failed" in verdict.message

    @pytest.mark.parametrize("how", [["migration", "active"], ["hang"]])
    def test_that_is_never_taken_up(self, stage: Stage, how: list[Any]) -> None:
        verdict = self.verdict(stage, SHORT, migrate=[how])
        assert type(verdict) is LabError
        assert "did not take up its state within" in verdict.message

    def test_that_qemu_dies_of(self, stage: Stage) -> None:
        words = "qemu-system-x86_64: Not a migration stream"
        verdict = self.verdict(stage, migrate=[["stderr", words], ["exit", 1]])
        assert isinstance(verdict, LabError)
        assert words in verdict.message + verdict.evidence

    def test_that_cannot_be_saved(self, stage: Stage) -> None:
        with pytest.raises(LabError, match="migration failed"):
            self.saved(stage, migrate=[["migration", "failed"]])

    def test_that_crashes_before_it_is_ready(self, stage: Stage) -> None:
        with pytest.raises(KernelCrashed):
            self.saved(stage, boot=[["console", PANIC], ["exit", 0]])

    def test_that_crashes_afterwards(self, stage: Stage) -> None:
        verdict = self.verdict(stage, request=[["console", PANIC], ["exit", 0]])
        assert type(verdict) is KernelCrashed
