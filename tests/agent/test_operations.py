"""Each operation of the agent that has nothing to do with the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentbox import Box, agent_in_a_box, outcome_of, soon

from linklab.agent.protocol import PROTOCOL_VERSION, Field
from linklab.errors import GuestIncomplete, LabError, ProtocolError
from linklab.host.run import run

pytestmark = pytest.mark.agent

OK, BAD_REQUEST, MISSING, REFUSED, SYSTEM = range(5)


@pytest.fixture(scope="module")
def box(agent_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One agent for all: an operation must leave nothing behind that the next one feels."""
    with agent_in_a_box(agent_program, tmp_path_factory.mktemp("agent")) as running:
        yield running


def sh(script: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", script, *arguments]


class TestHello:
    def test_tells_the_truth_about_the_machine(self, box: Box) -> None:
        hello, us = box.agent.hello(soon()), os.uname()
        assert hello.protocol == PROTOCOL_VERSION
        assert (hello.release, hello.version, hello.machine) == (us.release, us.version, us.machine)
        assert hello.cpus == len(os.sched_getaffinity(0)), (
            "those that it may use, as musl counts them"
        )
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert hello.memory == pages // 1024
        assert 0 < hello.clock_resolution <= 0.01
        assert 0 < hello.uptime <= float(Path("/proc/uptime").read_text().split()[0]) + 1

    def test_tells_the_clock_source(self, box: Box) -> None:
        kept = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        if not kept.exists():
            pytest.skip("this host does not tell its clock source")
        assert box.agent.hello(soon()).clocksource == kept.read_text().strip()

    def test_tells_one_agent_from_another(
        self, box: Box, agent_program: Path, tmp_path: Path
    ) -> None:
        with agent_in_a_box(agent_program, tmp_path) as other:
            assert other.agent.hello(soon()).nonce != box.agent.hello(soon()).nonce
        assert box.agent.hello(soon()).nonce == box.agent.hello(soon()).nonce


class TestRun:
    @pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 255])
    def test_tells_the_exit_status(self, box: Box, code: int) -> None:
        end = box.agent.run(sh(f"exit {code}"), soon())
        assert (end.exit_code, end.done) == (code, int(code == 0))

    @pytest.mark.parametrize("signal", [9, 11, 15])
    def test_tells_the_signal_that_killed_it(self, box: Box, signal: int) -> None:
        end = box.agent.run(sh(f"ulimit -c 0; kill -{signal} $$"), soon())
        assert (end.exit_code, end.done) == (-signal, 0)

    def test_tells_what_was_printed_on_both_outputs(self, box: Box) -> None:
        end = box.agent.run(sh("echo one; echo two >&2; echo three"), soon())
        assert end.output == b"one\ntwo\nthree\n"

    def test_tells_the_end_of_what_was_printed(self, box: Box) -> None:
        end = box.agent.run(sh("seq 300000"), soon())
        full = b"".join(b"%d\n" % number for number in range(1, 300001))
        assert end.output == full[-(1 << 20) :]

    def test_does_not_tell_what_an_earlier_one_printed(self, box: Box) -> None:
        box.agent.run(sh("seq 300000"), soon())
        assert box.agent.run(sh("echo -n x"), soon()).output == b"x"
        assert box.agent.run(sh(":"), soon()).output == b""

    def test_takes_arguments_as_they_are(self, box: Box) -> None:
        odd = ["", " ", "a b", "{}", "$HOME", "*", "line\nbreak", "ümläut", "-n"]
        end = box.agent.run(["/usr/bin/printf", "<%s>", *odd], soon())
        assert end.output.decode() == "".join(f"<{word}>" for word in odd)

    def test_gives_it_no_input(self, box: Box) -> None:
        end = box.agent.run(["/bin/cat"], soon())
        assert (end.exit_code, end.output) == (0, b"")

    def test_gives_it_no_file_but_its_three(self, box: Box) -> None:
        end = box.agent.run(sh("ls /proc/$$/fd"), soon())
        assert sorted(end.output.split()) == [b"0", b"1", b"2"]

    def test_times_it(self, box: Box) -> None:
        end = box.agent.run(["/bin/sleep", "0.1"], soon())
        assert 0.1 <= end.measure.seconds < 10
        assert end.measure.processes == 1
        assert end.measure.messages == 0
        assert end.measure.context_switches >= 1

    def test_counts_the_processor_time_of_the_program(self, box: Box) -> None:
        busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
        measure = box.agent.run(sh(busy), soon()).measure
        assert measure.user_seconds + measure.system_seconds > 0.01
        assert measure.user_seconds + measure.system_seconds <= measure.seconds + 0.05

    def test_leaves_no_file_behind(self, box: Box) -> None:
        mine = set(Path("/tmp").glob(".linklab-output*"))
        box.agent.run(sh("echo x"), soon())
        assert set(Path("/tmp").glob(".linklab-output*")) <= mine

    def test_takes_256_words_and_no_more(self, box: Box) -> None:
        end = box.agent.run(["/bin/echo", *["x"] * 255], soon())
        assert end.output == b" ".join([b"x"] * 255) + b"\n"
        with pytest.raises(ProtocolError):
            box.agent.run(["/bin/echo", *["x"] * 256], soon())


class TestAProgramThatIsMissing:
    def test_is_named(self, box: Box) -> None:
        with pytest.raises(GuestIncomplete, match=r"/bin/no-such: No such file"):
            box.agent.run(["/bin/no-such"], soon())

    def test_is_not_looked_for_in_the_path(self, box: Box) -> None:
        with pytest.raises(GuestIncomplete, match="sh"):
            box.agent.run(["sh"], soon())

    def test_can_be_its_interpreter(self, box: Box, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text("#!/bin/no-such-shell\n")
        script.chmod(0o755)
        with pytest.raises(GuestIncomplete, match=r"script: No such file"):
            box.agent.run([str(script)], soon())

    def test_can_be_its_loader(self, box: Box, tmp_path: Path) -> None:
        program = tmp_path / "ip"
        binary = Path("/bin/true").read_bytes()
        if b"/lib64/ld-linux-x86-64.so.2" not in binary:
            pytest.skip("/bin/true of this host is not linked dynamically")
        program.write_bytes(
            binary.replace(b"/lib64/ld-linux-x86-64.so.2", b"/lib64/ld-linux-x86-64.so.9")
        )
        program.chmod(0o755)
        with pytest.raises(GuestIncomplete, match="ip: No such file"):
            box.agent.run([str(program)], soon())

    @pytest.mark.parametrize("content", ["not a program", "\x7fELF"])
    def test_can_be_no_program_at_all(self, box: Box, tmp_path: Path, content: str) -> None:
        program = tmp_path / "program"
        program.write_text(content)
        program.chmod(0o755)
        with pytest.raises(GuestIncomplete, match=r"program: Exec format error"):
            box.agent.run([str(program)], soon())

    def test_can_be_a_folder(self, box: Box, tmp_path: Path) -> None:
        with pytest.raises(GuestIncomplete, match="Permission denied"):
            box.agent.run([str(tmp_path)], soon())

    def test_is_told_for_a_row_of_programs_too(self, box: Box) -> None:
        with pytest.raises(GuestIncomplete, match=r"/bin/no-such: No such file"):
            box.agent.run_each(["/bin/no-such", "{}"], 0, 3, soon())

    def test_is_forgotten_by_the_next_run(self, box: Box, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text("#!/bin/no-such-shell\n")
        script.chmod(0o755)
        with pytest.raises(GuestIncomplete):
            box.agent.run([str(script)], soon())
        assert box.agent.run_each(sh("exit 0"), 0, 0, soon()).exit_code == 0
        assert box.agent.run(sh("exit 127"), soon()).exit_code == 127


class TestRunEach:
    def test_puts_the_number_in_every_place(self, box: Box) -> None:
        end = box.agent.run_each(["/bin/echo", "a{}b", "{}-{}", "{x}", "{}"], 9, 2, soon())
        assert end.output == b"a9b 9-9 {x} 9\na10b 10-10 {x} 10\n"
        assert (end.done, end.exit_code, end.measure.processes) == (2, 0, 2)

    def test_takes_numbers_of_any_length(self, box: Box) -> None:
        end = box.agent.run_each(["/bin/echo", "{}"], 2**64 - 1, 1, soon())
        assert end.output == b"18446744073709551615\n"

    def test_ends_at_the_first_that_fails(self, box: Box) -> None:
        end = box.agent.run_each(sh("echo $0; test $0 -lt 5", "{}"), 2, 10, soon())
        assert (end.done, end.exit_code) == (3, 1)
        assert end.output == b"2\n3\n4\n5\n"
        assert end.measure.processes == 4

    def test_ends_at_the_first_that_is_killed(self, box: Box) -> None:
        end = box.agent.run_each(sh("kill -9 $$"), 0, 10, soon())
        assert (end.done, end.exit_code) == (0, -9)

    def test_of_none_is_done(self, box: Box) -> None:
        end = box.agent.run_each(["/bin/false"], 0, 0, soon())
        assert (end.done, end.exit_code, end.output) == (0, 0, b"")

    def test_times_all_of_them_together(self, box: Box) -> None:
        end = box.agent.run_each(["/bin/sleep", "0.0{}"], 2, 3, soon())
        assert 0.09 <= end.measure.seconds < 10

    def test_refuses_a_word_that_it_would_have_to_cut(self, box: Box) -> None:
        short = "x" * (255 - 20) + "{}"
        end = box.agent.run_each(["/bin/echo", short], 2**64 - 1, 1, soon())
        assert end.output == b"x" * 235 + b"18446744073709551615\n"
        with pytest.raises(ProtocolError):
            box.agent.run_each(["/bin/echo", "x" + short], 0, 1, soon())

    def test_takes_long_words_without_a_place(self, box: Box) -> None:
        end = box.agent.run_each(["/bin/echo", "x" * 5000], 0, 1, soon())
        assert end.output == b"x" * 5000 + b"\n"


class TestWake:
    ENTROPY = bytes(64)

    def test_may_not_set_the_clock_of_this_machine(self, box: Box) -> None:
        with pytest.raises(LabError, match="clock_settime: Operation not permitted"):
            box.agent.resume(soon(), 0, self.ENTROPY)

    @pytest.mark.parametrize(
        "fields", [[], [1], [1, b""], [1, bytes(31)], [1, bytes(513)], [b"", bytes(64)]]
    )
    def test_wants_a_time_and_enough_entropy(self, box: Box, fields: list[Field]) -> None:
        assert outcome_of(box.ask("resume", *fields)) == BAD_REQUEST


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [""],
        ["no-such-operation"],
        ["hello\0"],
        ["Hello"],
        [1],
        ["run"],
        ["run", 0],
        ["run", 257, "/bin/true"],
        ["run", 2, "/bin/true"],
        ["run", 2**64 - 1, "/bin/true"],
        ["run", "/bin/true"],
        ["run", 1, "/bin/true\0/bin/false"],
        ["run-each"],
        ["run-each", 0, 1, 0],
        ["run-each", 0, 1, 0, 2, "/bin/true"],
        ["run-each", 0, 1, "no number", 1, "/bin/true"],
        ["run-each", 0, 1, 0, 1, "{}" * 200],
        ["read-file"],
        ["write-file"],
        ["write-file", "path"],
        ["write-file", "path", 0, 0],
        ["write-file", "path", "0644", 0, b""],
        ["write-file", "a\0b", 0, 0, b"content"],
    ],
    ids=lambda fields: ascii(fields)[:50].replace("\\", ""),
)
def test_a_request_whose_fields_do_not_fit_is_refused(
    box: Box, fields: list[Field], tmp_path: Path
) -> None:
    assert outcome_of(box.ask(*fields)) == BAD_REQUEST


@pytest.mark.parametrize(
    "body", [b"\0", b"\xff\xff\xff\xff", b"\x05\0\0\0hell", b"\x05\0\0\0hello\x01", bytes(5000)]
)
def test_a_request_that_is_no_list_of_fields_is_answered(box: Box, body: bytes) -> None:
    assert outcome_of(box.ask_raw(body)) in {OK, BAD_REQUEST}


def test_the_program_is_small_and_needs_nothing(agent_program: Path) -> None:
    assert agent_program.stat().st_size < 150_000
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("there is no readelf")
    headers = run([readelf, "-lW", agent_program]).text
    assert "LOAD" in headers
    assert "INTERP" not in headers
