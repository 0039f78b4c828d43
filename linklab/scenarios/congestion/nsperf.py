"""The experiments of nsperf (google/bbr, gtests/net/tcp/bbr/nsperf/run_tests.sh) as presets.

Buffers in BDP, losses, flows and algorithms are theirs. They send for 10 to 300 s, ten times
over; presets send for as long as lets each end within minutes, and leave out some values. Where
theirs have 1 Gbit/s it is a tenth here: a guest's CPU of an instruction a nanosecond did not
fill more over a queue that marks, and what is published of random loss was measured so.
BBR is the one that the kernel has, where theirs is version 2 or 3.
"""

from __future__ import annotations

from linklab.lab.traces import DRIVE
from linklab.scenarios.scenario import Preset

_BOTH = ("bbr", "cubic")

PRESETS = {
    "coexist": Preset(
        "CUBIC, and BBR 2 s later, at buffers of 0.1 to 16 BDP",
        {
            "arm": ("cubic",),
            "competitor": ("bbr",),
            "rate": (50.0,),
            "delay": (30.0,),
            "buffer": (0.1, 1.0, 2.0, 4.0, 8.0, 16.0),
        },
        {"seconds": 30, "interval": 2000},
    ),
    "random_loss": Preset(
        "BBR and CUBIC alone, where 0.001 to 15 % are lost",
        {
            "arm": _BOTH,
            "rate": (100.0,),
            "delay": (100.0,),
            "buffer": (1.0,),
            "loss": (0.001, 0.1, 1.0, 3.0, 15.0),
        },
        {"seconds": 20},
    ),
    "shallow": Preset(
        "1 to 100 flows at a buffer of 0.02 BDP",
        {
            "arm": _BOTH,
            "rate": (100.0,),
            "delay": (100.0,),
            "buffer": (0.02,),
            "flows": (1, 10, 100),
        },
        {"seconds": 20, "interval": 139},
    ),
    "bufferbloat": Preset(
        "two flows at buffers of 1 to 100 BDP",
        {
            "arm": _BOTH,
            "rate": (50.0,),
            "delay": (30.0,),
            "buffer": (1.0, 10.0, 50.0, 100.0),
            "flows": (2,),
        },
        {"seconds": 30, "interval": 2000},
    ),
    "ecn_bulk": Preset(
        "DCTCP and BBR over a queue that marks, 1 to 100 flows",
        {"arm": ("dctcp", "bbr"), "ecn": ("on",), "flows": (1, 4, 10, 40, 100)},
        # Ten times their 1 ms and 242 us, so that as many packets are under way, and wait.
        {
            "topology": "a -- r -- b: clean | 100mbit 5ms mark=2420us",
            "seconds": 5,
            "interval": 5,
        },
    ),
    "drive": Preset(
        "a car with LTE (not of nsperf's)",
        {"arm": _BOTH},
        {"seconds": 30, "trace": DRIVE},
    ),
}
