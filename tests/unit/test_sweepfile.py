"""The file of `invoke sweep`: what is wrong with it, and what is typed beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_sweep import (
    AXIS,
    CHECK,
    FILE,
    PATH,
    checking,
    here,  # noqa: F401
    with_line,
)

from linklab.commands.sweep import SweepOptions, typed
from linklab.commands.sweepfile import read
from linklab.errors import UsageError
from linklab.events import Event, Note

# What is wrong with a file is said before anything is started

BAD: list[tuple[str, list[str]]] = [
    ("scenario = \n", ["is no TOML", "line 1"]),
    (with_line(FILE, AXIS, "repeat = "), ["is no TOML", "line 7"]),
    (FILE.replace('"rate.py"', '"rate.py"\n[x]', 1).replace("[x]", "x ="), ["no TOML", "line 2"]),
    (with_line(FILE, AXIS, 'acel = "tcg"'), ["no key 'acel'", "is accel meant?", "scenario"]),
    (with_line(FILE, AXIS, 'output = "x"'), ["no key 'output'"]),
    (with_line(FILE, AXIS, "repeat = true"), ["repeat is true", "a word or a number"]),
    (with_line(FILE, AXIS, "repeat = [1, 2]"), ["repeat is [1, 2]", "a word or a number"]),
    (with_line(FILE, AXIS, "repeat = 0"), ["sweep.toml: repeat 0", "from 1"]),
    (with_line(FILE, AXIS, "repeat = 1979-05-27"), ["repeat is 1979-05-27"]),
    (with_line(FILE, AXIS, 'fresh-guest = "yes"'), ["fresh-guest is 'yes'", "true or false"]),
    (with_line(FILE, AXIS, "patch = []"), ["patch has no values"]),
    (with_line(FILE, AXIS, 'boot = "iso"'), ["sweep.toml: boot iso", "direct or resume"]),
    (with_line(FILE, AXIS, 'boot = "frob"'), ["sweep.toml: boot frob", "direct, iso"]),
    (with_line(FILE, AXIS, 'place = "guests"'), ["place guests", "no topology"]),
    (FILE.replace('["nosysfs"]', '["frob"]'), ["sweep.toml: kernel: ", "frob", "sysfs, nosysfs"]),
    (FILE.replace('["nosysfs"]', '["nosysfs+no.patch"]'), ["no.patch"]),
    (FILE.replace('["nosysfs"]', f'["{"s" * 5000}"]'), ["kernel is 'sss", "up to 255 letters"]),
    (with_line(FILE, AXIS, 'source = "a\\u0000b"'), ["source is 'a\\x00b'", "a byte of 0"]),
    (with_line(FILE, AXIS, f"repeat = {'9' * 5000}"), ["is no TOML"]),
    (with_line(FILE, AXIS, f"x = {'[' * 3000}"), ["is no TOML"]),
    (FILE.replace('scenario = "rate.py"\n', ""), ["scenario is not there", "scenario ="]),
    (FILE.replace('"rate.py"', '"frob"'), ["sweep.toml: scenario frob", "valid are"]),
    (FILE.replace('"rate.py"', '"frob.py"'), ["frob.py: there is no such file"]),
    (FILE.replace("size =", "sise ="), ["[axes]", "'sise'", "is size meant?", "size, protocol"]),
    (FILE.replace("[100, 200]", "[]"), ["[axes] size has no values"]),
    (FILE.replace("[100, 200]", "[100, 100]"), ["[axes] size has 100 twice"]),
    (FILE.replace("[100, 200]", '["much"]'), ["[axes] size has 'much'", "a number is expected"]),
    (FILE.replace("[100, 200]", "[true]"), ["[axes] size has true"]),
    (FILE.replace("[100, 200]", "[10000]"), ["sweep.toml: [axes] size 10000", "from 1 to 9000"]),
    (FILE.replace('"udp"', '"sctp"'), ["[axes] protocol sctp", "valid are tcp, udp"]),
    (FILE.replace('"udp"', "4"), ["[axes] protocol has 4", "a word is expected"]),
    (FILE.replace('["tcp", "udp"]', '["tcp,udp"]'), ["[axes] protocol", "'tcp,udp'", "several"]),
    (with_line(FILE, AXIS, "rows = 0"), ["rows is 0", "size, protocol, pace"]),
    (with_line(FILE, AXIS, 'rows = ""'), ["rows is ''", "size, protocol, pace"]),
    (
        FILE.replace("[100, 200]", str(list(range(1, 2502)))),
        ["sweep.toml: 10004 cells of all kernels", "at most 10000"],
    ),
    (FILE.replace("[axes]", "axes = 3\n[x]"), ["no key 'x'"]),
    ("axes = 3\n" + FILE.split("[axes]", maxsplit=1)[0], ["axes is 3", "[axes]"]),
    (FILE.replace("pace =", "peace ="), ["[parameters]", "'peace'", "is pace meant?", "queue"]),
    (FILE.replace("[1, 2.5]", "[]"), ["[parameters] pace has no values"]),
    (FILE.replace("[1, 2.5]", "[1, 1.0]"), ["[parameters] pace has 1 twice"]),
    (FILE.replace("[1, 2.5]", "[1, 11]"), ["[parameters] pace=11", "from 0 to 10"]),
    (FILE.replace("[1, 2.5]", '["fast"]'), ["[parameters] pace=fast", "a number is expected"]),
    (FILE.replace('"fq"', '"red"'), ["[parameters] queue=red", "valid are fifo, fq"]),
    (with_line(FILE, AXIS, 'rows = "frob"'), ["rows is 'frob'", "size, protocol, pace"]),
    (with_line(FILE, AXIS, 'metrics = ["speed"]'), ["metrics", "'speed'", "rate, lost"]),
    (FILE + '\n[check]\nmetric = "rate"\n', ["check is no table", "[[check]]"]),
    (FILE + CHECK + "at_most = 3\n", ["check 1", "no key 'at_most'", "is at-most meant?"]),
    (FILE + CHECK + 'metric = "speed"\n', ["check 1", "metric 'speed'", "rate, lost"]),
    (FILE + "\n[[check]]\nmetric = 'rate'\n", ["check 1 has no limit", "at-least = NUMBER"]),
    (FILE + "\n[[check]]\nat-least = 'much'\n", ["check 1: at-least is 'much', and no number"]),
    (FILE + f"\n[[check]]\nat-least = {'9' * 400}\n", ["check 1: at-least is 999", "no number"]),
    (FILE + "\n[[check]]\nat-least = nan\n", ["check 1: at-least is nan, and no number"]),
    (FILE + CHECK + "at-most = 9\n", ["check 1 can never hold"]),
    (FILE + CHECK + "where = 3\n", ["check 1: where is 3", "{AXIS = VALUE}"]),
    (FILE + CHECK + "where = {sise = 3}\n", ["check 1: where", "'sise'", "is size meant?"]),
    (FILE + CHECK + "where = {size = 300}\n", ["check 1: where: size 300", "has 100, 200"]),
    (FILE + CHECK + "where = {pace = 2}\n", ["check 1: where: pace 2", "has 1.0, 2.5"]),
    (FILE + CHECK + "where = {queue = 'fifo'}\n", ["where: queue fifo is not measured", "fq"]),
    (FILE + CHECK + "where = {kernel = 'sysfs'}\n", ["where: kernel sysfs", "has nosysfs"]),
    (
        FILE + CHECK + "where = {protocol = 'udp'}\nagainst = {protocol = 'udp'}\n",
        ["check 1 is of no cell"],
    ),
    (FILE + CHECK + "against = {size = [100, 200]}\n", ["several values of size"]),
    (FILE + CHECK + CHECK + "where = {size = 1}\n", ["check 2: where: size 1"]),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=[says[0] for _, says in BAD])
def test_a_wrong_file_is_refused_and_leaves_nothing(
    text: str, says: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        checking(text)
    for part in says:
        assert part in caught.value.message
    assert "sweep.toml" in caught.value.message or "no.patch" in caught.value.message
    assert {path.name for path in tmp_path.iterdir()} <= {"rate.py", "sweep.toml", "__pycache__"}


def test_a_file_that_is_not_there_or_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match=r"frob\.toml cannot be read: No such file"):
        read(Path("frob.toml"), {})
    PATH.write_bytes(b"scenario = '\xff'")
    with pytest.raises(UsageError, match=r"sweep\.toml is no text"):
        read(PATH, {})


def test_what_the_reader_of_a_parameter_says_is_said_of_the_file() -> None:
    PATH.write_text('scenario = "congestion"\n[parameters]\ntopology = "a -- b: 10mbits"\n')
    with pytest.raises(UsageError) as caught:
        read(PATH, {})
    said, typed_text, mark = caught.value.message.splitlines()
    assert said.startswith("sweep.toml: [parameters] topology: a rate (10mbit)")
    assert typed_text[mark.index("^") :] == "10mbits"


def test_several_topologies_need_the_place_where_each_guest_has_its_own() -> None:
    text = 'scenario = "congestion"\nplace = "guests"\n[parameters]\n'
    with pytest.raises(UsageError, match="one topology at a time"):
        checking(text + 'topology = ["a -- b: 10mbit", "a -- b: 20mbit"]\n')


def test_how_much_there_is_to_measure_is_said_before_anything_is_started() -> None:
    notes: list[Event] = []
    text = FILE.replace("seed = 7", "seed = 7\nrepeat = 3").replace("pace =", "seconds = 2\npace =")
    checking(text, listener=notes.append)
    said = "32 trials: 8 cells on 1 kernel, 4 of each; up to 64.0 s of the guests' time"
    assert Note(f"sweep.toml: {said}") in notes


def test_each_set_of_parameters_is_held_against_each_cell() -> None:
    text = 'scenario = "congestion"\n[axes]\necn = ["off", "on"]\n[parameters]\n'
    with pytest.raises(UsageError, match=r"sweep\.toml: .*trace.* marks nothing"):
        checking(text + 'trace = ["", "drive"]\n')


# What is typed counts before the file


def test_what_is_typed_counts_before_what_the_file_says() -> None:
    options = SweepOptions(file="x", trials=replace(SweepOptions().trials, repeat="3"))
    over = typed(options, ["invoke", "sweep", "x", "--repeat=3", "--clock", "auto"])
    assert over == {"repeat": "3", "clock": "auto"}
    text = with_line(FILE, AXIS, "repeat = 2\naccel = 'tcg'")
    PATH.write_text(text)
    asked = read(PATH, over)
    assert (asked.options.repeat, asked.options.machine.clock) == ("3", "auto")
    assert asked.options.machine.accel == "tcg"


def test_files_beside_the_sweeps_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("fix.patch").touch()
    PATH.write_text(FILE.replace('["nosysfs"]', '["nosysfs", "+fix.patch"]'))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    asked = read(tmp_path / PATH, {})
    assert asked.options.scenario == str(tmp_path / "rate.py")
    assert asked.options.kernels.names == f"nosysfs,+{tmp_path / 'fix.patch'}"
