"""Fragments: what they ask for, what the finished config has, and why it differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.errors import BuildSkipped, UsageError
from linklab.kernel.kconfig import (
    Unmet,
    Wish,
    check,
    merge,
    overlay,
    parse_config,
    parse_fragment,
    read_fragment,
    unmet,
)
from linklab.kernel.kconfig_reasons import explain


def wish(line: str, *, users: bool = False) -> Wish:
    (only,) = parse_fragment(line, "f.config", users=users)
    return only


def unexplained(missing: Sequence[Unmet]) -> Sequence[Unmet]:
    return missing


# --- fragments ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ("CONFIG_NET=y   # why", "CONFIG_NET", "y"),
        ("CONFIG_NET=y# why", "CONFIG_NET", "y"),
        ("  CONFIG_NET=m", "CONFIG_NET", "m"),
        ("CONFIG_NET=n", "CONFIG_NET", "n"),
        ("# CONFIG_NET is not set", "CONFIG_NET", "n"),
        ("# CONFIG_NET is not set     # why", "CONFIG_NET", "n"),
        ("#CONFIG_NET is not set", "CONFIG_NET", "n"),
        ("CONFIG_HZ=250", "CONFIG_HZ", "250"),
        ("CONFIG_BASE=0x1F0", "CONFIG_BASE", "0x1F0"),
        ("CONFIG_OFFSET=-1", "CONFIG_OFFSET", "-1"),
        ('CONFIG_CMDLINE="a # b \\" c"  # why', "CONFIG_CMDLINE", '"a # b \\" c"'),
        ('CONFIG_CMDLINE=""', "CONFIG_CMDLINE", '""'),
    ],
)
def test_a_line_is_an_option_with_or_without_a_reason(line: str, option: str, value: str) -> None:
    assert wish(line) == Wish(option, value, "f.config:1", users=False)


@pytest.mark.parametrize("line", ["", "   ", "# why", "# CONFIG_NET is on elsewhere", "#"])
def test_comments_ask_for_nothing(line: str) -> None:
    assert parse_fragment(line, "f.config", users=True) == []


@pytest.mark.parametrize(
    "line",
    ["NET=y", "CONFIG_NET", "CONFIG_NET =y", "CONFIG_NET= y", "CONFIG_NET=yes", "CONFIG_NET=Y",
     'CONFIG_A="open', "CONFIG_NET is not set", "CONFIG_A=y y", "CONFIG_A=0xZZ", "CONFIG_=",
     "config NET"],
)  # fmt: skip
def test_any_other_line_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(UsageError, match=r"my\.config:3: `.*` is no config line: expected"):
        parse_fragment(f"# why\nCONFIG_OK=y\n{line}\n", "my.config", users=True)


def test_a_fragment_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.config cannot be read: No such file"):
        read_fragment(tmp_path / "nowhere.config", users=True)
    (tmp_path / "binary.config").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.config cannot be read: it is not text"):
        read_fragment(tmp_path / "binary.config", users=True)


def test_later_wishes_override_earlier_ones_and_come_last() -> None:
    """Of a choice, Kconfig takes the member that was set last."""
    merged = merge([wish("CONFIG_A=y"), wish("CONFIG_B=y"), wish("# CONFIG_A is not set")])
    assert list(merged) == ["CONFIG_B", "CONFIG_A"]
    assert merged["CONFIG_A"].value == "n"


names = st.from_regex(r"CONFIG_[A-Z0-9_]{1,8}", fullmatch=True)
values = st.one_of(
    st.sampled_from(["y", "m", "n"]),
    st.integers(-9, 9999).map(str),
    st.text("ab #=\\\"'", max_size=6).map(
        lambda t: '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"'
    ),
)


@given(st.dictionaries(names, values))
def test_a_config_that_was_overlaid_holds_what_was_asked_for(options: dict[str, str]) -> None:
    merged = {name: Wish(name, value, "f:1", users=True) for name, value in options.items()}
    base = "# head\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=5\n"
    text = overlay(base, merged)
    assert {**parse_config(base), **options} == parse_config(text)
    assert unmet(merged, parse_config(text)) == []
    assert text.startswith("# head\n")


# --- the check ---------------------------------------------------------------


def test_what_did_not_hold_is_found_in_both_directions() -> None:
    merged = merge([wish("CONFIG_A=y"), wish("# CONFIG_B is not set"), wish("CONFIG_C=5")])
    config = {"CONFIG_B": "y", "CONFIG_C": "6"}
    assert [(entry.wish.option, entry.got) for entry in unmet(merged, config)] == [
        ("CONFIG_A", "n"),
        ("CONFIG_B", "y"),
        ("CONFIG_C", "6"),
    ]


@pytest.mark.parametrize(("wanted", "got"), [("0x10", "0X10"), ("16", "0x10"), ("007", "7")])
def test_numbers_are_compared_as_numbers(wanted: str, got: str) -> None:
    assert unmet(merge([wish(f"CONFIG_A={wanted}")]), {"CONFIG_A": got}) == []


def test_an_absent_option_is_as_good_as_one_that_is_off() -> None:
    assert unmet(merge([wish("# CONFIG_A is not set"), wish("CONFIG_B=n")]), {}) == []


def test_a_module_is_not_what_was_asked_for() -> None:
    (entry,) = unmet(merge([wish("CONFIG_A=y")]), {"CONFIG_A": "m"})
    assert "wanted `CONFIG_A=y`, got `CONFIG_A=m`" in str(entry)


def test_a_persons_option_that_did_not_hold_is_a_wrong_option() -> None:
    merged = merge([wish("CONFIG_A=y"), wish("CONFIG_B=y", users=True)])
    with pytest.raises(UsageError) as error:
        check(merged, {}, unexplained, "/src/linux")
    assert "2 options of --config did not hold in /src/linux" in error.value.message
    assert "f.config:1: wanted `CONFIG_B=y`, got `# CONFIG_B is not set`" in error.value.message


def test_an_optional_one_that_did_not_hold_is_nobodys_fault() -> None:
    merged = merge([replace(wish("CONFIG_A=y", users=True), optional=True)])
    check(merged, {}, unexplained, "/src/linux")
    assert [entry.wish.option for entry in unmet(merged, {})] == ["CONFIG_A"]


def test_the_labs_own_option_that_did_not_hold_means_there_is_no_such_kernel() -> None:
    with pytest.raises(BuildSkipped, match="1 option that the lab needs did not hold in"):
        check(merge([wish("CONFIG_A=y")]), {}, unexplained, "/src/linux")


def test_a_config_that_holds_everything_passes() -> None:
    check(merge([wish("CONFIG_A=y")]), {"CONFIG_A": "y"}, unexplained, "/src/linux")


# --- the reasons -------------------------------------------------------------

TOP = """
mainmenu "test"
source "net/Kconfig"
source "arch/$(SRCARCH)/Kconfig"
source "absent/Kconfig"
source "loop/Kconfig"
"""

NET = """
menuconfig NET
    bool "net"
    help
      config FAKE
      depends on nothing, this is a help text

      select NOTHING
config PLAIN
    bool "plain"
    depends on NET && (ONE || TWO) # a comment
    depends on !BROKEN

if NET

menu "deep"
    depends on DEEP
    visible if SHALLOW

comment "remark"
    depends on REMARK

config INSIDE
    bool
    prompt "inside"

endmenu

config TYPED
    string "typed"
    depends on MODE = "fast" && \\
           LEVEL != 3 && VERSION >= 5 && $(cc-option,-mfoo)

endif # NET

config SELECTED
    bool "selected"

config HIDDEN
    def_bool y

config BLIND
    tristate

config SELECTOR
    bool "selector"
    select SELECTED if NET
    imply INSIDE

config OTHER_SELECTOR
    bool "other"
    select SELECTED if BROKEN

config TWICE
    bool "twice"
    depends on BROKEN

config TWICE
    bool "twice"
    depends on ONE

choice
    prompt "packing"
    default PACK_A
config PACK_A
    bool "a"
config PACK_B
    bool "b"
    ---help---
      b
endchoice

config EXPERTS
    bool "for experts" if EXPERT # they know
    default y

config NUMBER
    int "number"
    range 2 HIGHEST if !MANY
    range 2 64 if MANY

config LAST
    bool "last"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {"Kconfig": TOP, "net/Kconfig": NET, "arch/x86/Kconfig": "config X86\n\tdef_bool y\n",
             "loop/Kconfig": 'source "loop/Kconfig"\n'}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "on", "reason"),
    [
        ("CONFIG_ABSENT=y", "", "no Kconfig file of this source knows it"),
        ("CONFIG_FAKE=y", "", "no Kconfig file of this source knows it"),
        (
            "CONFIG_PLAIN=y",
            "",
            "it depends on `NET && (ONE || TWO)`, and NET is off, ONE is off, TWO is off",
        ),
        ("CONFIG_PLAIN=y", "NET TWO BROKEN", "it depends on `!BROKEN`, and BROKEN is on"),
        ("CONFIG_PLAIN=y", "NET TWO", ""),
        ("CONFIG_INSIDE=y", "NET", "it depends on `DEEP`, and DEEP is off"),
        ("CONFIG_INSIDE=y", "", "it depends on `NET && DEEP`, and DEEP is off, NET is off"),
        ("CONFIG_INSIDE=y", "NET DEEP", ""),
        ("CONFIG_LAST=y", "", ""),
        (
            "# CONFIG_EXPERTS is not set",
            "EXPERTS",
            "it can be switched off only with `EXPERT`, and EXPERT is off",
        ),
        ("# CONFIG_EXPERTS is not set", "EXPERTS EXPERT", ""),
        ("CONFIG_EXPERTS=y", "", "it can be set only with `EXPERT`, and EXPERT is off"),
        ("CONFIG_NUMBER=99", "", "its range is 2 to HIGHEST if !MANY or 2 to 64 if MANY"),
        ("CONFIG_NUMBER=99", "HIGHEST", "its range is 2 to y if !MANY or 2 to 64 if MANY"),
        ("CONFIG_TWICE=y", "", "it depends on `BROKEN`, and BROKEN is off"),
        ("CONFIG_TWICE=y", "ONE", ""),
        ("CONFIG_BLIND=y", "", "it cannot be set by hand: it follows from other options"),
        ("# CONFIG_SELECTED is not set", "SELECTED SELECTOR NET", "selected by CONFIG_SELECTOR"),
        ("# CONFIG_SELECTED is not set", "SELECTED OTHER_SELECTOR", ""),
        (
            "# CONFIG_SELECTED is not set",
            "SELECTED SELECTOR OTHER_SELECTOR NET BROKEN",
            "selected by CONFIG_OTHER_SELECTOR, CONFIG_SELECTOR",
        ),
        (
            "# CONFIG_HIDDEN is not set",
            "HIDDEN",
            "it cannot be switched off by hand: it follows from other options",
        ),
        (
            "# CONFIG_PACK_A is not set",
            "PACK_A",
            "it is the default of its choice: set another member of that choice",
        ),
        ("CONFIG_PACK_B=y", "PACK_A", "another member of its choice is set: CONFIG_PACK_A"),
        ("CONFIG_PACK_B=y", "", ""),
    ],
)
def test_the_reason_is_what_kconfig_says(tree: Path, line: str, on: str, reason: str) -> None:
    config = {f"CONFIG_{name}": "y" for name in on.split()}
    asked = wish(line)
    (entry,) = explain(tree, config, [Unmet(asked, config.get(asked.option, "n"))])
    assert entry.reason == reason
    assert str(entry).endswith(f"`: {reason}" if reason else "`")


@pytest.mark.parametrize(
    ("mode", "level", "holds"), [("fast", "2", True), ("slow", "2", False), ("fast", "3", False)]
)
def test_comparisons_in_conditions_are_understood(
    tree: Path, mode: str, level: str, holds: bool
) -> None:
    config = {"CONFIG_NET": "y", "CONFIG_MODE": f'"{mode}"', "CONFIG_LEVEL": level}
    (entry,) = explain(tree, config, [Unmet(wish('CONFIG_TYPED="x"'), '""')])
    assert (entry.reason == "") is holds
