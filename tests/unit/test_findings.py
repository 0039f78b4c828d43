"""Reports on file: where they lie, what is in them, and what a person sees at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from linklab.console.watch import reports_in
from linklab.errors import LabError
from linklab.lab.kernel_reports import FiledReport, file_reports

REPORTS = Path(__file__).parent / "reports"


def filed(name: str, log: Path, *, symbols: Path | None = None, known: bool = False) -> FiledReport:
    reports = reports_in((REPORTS / f"{name}.log").read_text())
    return file_reports(reports, log, symbols, known=known)[0]


@pytest.mark.parametrize(
    ("log", "known", "name"),
    [
        ("console-003-sysfs-128.log", False, "report-003-sysfs-128-1.txt"),
        ("console-003-sysfs-128.log", True, "known-003-sysfs-128-1.txt"),
        ("console.log", False, "report-1.txt"),
    ],
)
def test_a_report_lies_beside_its_consoles_log(
    log: str, known: bool, name: str, tmp_path: Path
) -> None:
    assert filed("warning", tmp_path / log, known=known).path == tmp_path / name


def test_the_file_says_what_it_is_and_holds_all(tmp_path: Path) -> None:
    finding = filed("null_pointer", tmp_path / "console.log")
    head, _, text = finding.path.read_text().partition("\n\n")
    assert (
        "title:       BUG: unable to handle kernel NULL pointer dereference in rtnl_setlink" in head
    )
    assert "class:       page fault" in head
    assert text == finding.report.text + "\n"


def test_what_is_shown_goes_without_registers_and_guesses(tmp_path: Path) -> None:
    finding = filed("null_pointer", tmp_path / "console.log")
    assert "RIP: 0010:rtnl_setlink" in finding.shown
    assert "rtnetlink_rcv_msg" in finding.shown
    for ballast in ("RAX:", "Code:", "CR2: ", "? page_fault_oops", "Hardware name", "RIP: 0033"):
        assert ballast in finding.text
        assert ballast not in finding.shown


@pytest.mark.parametrize("pointer", [[], ["RIP: 0010:dev_open+0x1/0x20"]])
def test_guesses_are_shown_where_there_is_nothing_better(
    pointer: list[str], tmp_path: Path
) -> None:
    stack = ["Call Trace:", " ? dev_close+0x1/0x20"]
    lines = ["BUG: Bad page state in process ip", *pointer, *stack]
    reports = reports_in("".join(f"[    2.000000] {line}\n" for line in lines))
    (finding,) = file_reports(reports, tmp_path / "console.log", None)
    assert "? dev_close" in finding.shown


def test_what_is_shown_has_an_end(tmp_path: Path) -> None:
    lines = ["BUG: Bad page state in process ip", *(f"line {i}" for i in range(100))]
    reports = reports_in("".join(f"[    2.000000] {line}\n" for line in lines))
    (finding,) = file_reports(reports, tmp_path / "console.log", None)
    assert finding.shown.endswith("... 41 lines more")
    assert "line 99" in finding.text


def test_debug_information_that_cannot_be_read_costs_only_the_lines(tmp_path: Path) -> None:
    broken = tmp_path / "vmlinux"
    broken.write_text("no ELF")
    for symbols in (broken, tmp_path / "gone"):
        finding = filed("warning", tmp_path / "console.log", symbols=symbols)
        assert not finding.is_decoded
        assert finding.text == finding.report.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"gone/report-1\.txt cannot be written"):
        filed("warning", tmp_path / "gone" / "console.log")


def test_run_json_gets_what_tells_one_fault_from_another(tmp_path: Path) -> None:
    finding = filed("kasan", tmp_path / "console.log")
    assert finding.to_json() == {
        "class": "KASAN",
        "title": "KASAN: slab-use-after-free Read in dummy_xmit",
        "function": "dummy_xmit",
        "fingerprint": finding.report.fingerprint,
        "file": "report-1.txt",
    }
