"""What `--help` says of the options that several tasks have."""

from __future__ import annotations

from linklab.commands.exports import HELP as EXPORT_HELP
from linklab.scenarios.grouping.ways import ARM_HELP, limits_text

KERNEL_HELP = {
    "kernel": "kernels, comma-separated: flavours (sysfs, nosysfs, debug, debug-nosysfs), "
    "debian (this Debian's own, fetched), deb:PACKAGE, bzImages or built kernel trees",
    "source": "a kernel tree or a tarball to build the flavours from, instead of Debian's",
    "patch": "patches to apply to the source first: a file, an mbox, or a folder with a series; "
    "may be repeated, in order",
    "range": "BASE..TOPIC: commits of the git tree that --source names, instead of its files",
    "config": "a fragment of kernel options to merge last, or the name of one of the lab's own "
    "(debug, kasan, symbols); may be repeated, in order",
}
MODULE_HELP = {
    "module": "the folder of an out-of-tree module's source, to build against each kernel and "
    "load, or the name of a module that the kernel has; may be repeated, in order",
}
HARDWARE_HELP = {
    "accel": "auto (KVM if it really runs a guest, else TCG), kvm or tcg",
    "machine": "auto (the fastest that the kernel boots on), pc or microvm",
    "memory": "the guest's memory in MiB; default: what the work needs, at least 256",
    "cpus": "the guest's CPUs",
}
CLOCK_HELP = {
    "clock": "what the guest's seconds are: real, virtual (1 ns for each instruction that it "
    "executes, the same on every host), or auto (real under KVM, else virtual)",
}
MACHINE_HELP = {**HARDWARE_HELP, **CLOCK_HELP}
ARMS_TEXT = "; ".join(f"{arm}: {text}" for arm, text in ARM_HELP.items())
RUN_HELP = {
    **KERNEL_HELP,
    **MACHINE_HELP,
    "scenario": "what to measure: grouping",
    "counts": "numbers of interfaces, comma-separated",
    "operations": "create, mtu, up, down, address, group, delete, or all; comma-separated",
    "arms": f"ways to do it, comma-separated, or all. {ARMS_TEXT}. Left out: {limits_text()}",
    "repeat": "trials of each operation, arm, count and kernel, in shuffled order",
    "warmup": "trials before them that are thrown away; default 1 with --repeat above 1, else 0",
    "seed": "the number that the order is drawn with, and in virtual time the guests' random "
    "numbers; default: a new one, recorded in run.json; in virtual time 0",
    "fresh-guest": "a guest of its own for each trial, instead of one for each kernel and count",
    "jobs": "guests at work side by side, each on cores of its own where there are enough; "
    "default 1, in virtual time one for each of the host's CPUs",
    "listeners": "processes in the guest that listen for link changes during the operation",
    "boot": "direct (kernel and initramfs), iso (through isolinux), or resume (from a saved guest)",
    "output": "a folder for the results; default results/<UTC time>-<scenario>",
    "timeout": "seconds after which one operation counts as hung; default: by size",
    "boot-timeout": "seconds until the agent must have said hello; default: by accelerator",
    "noise": "a file of titles of reports that do not count, a regular expression a line",
    "timings": "say at the end what each stage of the command took",
    "record": "record each guest, and keep that of one that failed for `invoke gdb --replay`",
    "keep": "keep a guest that failed, its console on this terminal, until you leave it",
    "json": "print one JSON document on standard output, and nothing else there",
}
COMPARE_HELP = {
    **MACHINE_HELP,
    "a": "the first kernel, KERNEL[@SOURCE][+PATCH...]: a flavour (of a source tree or of a "
    "commit of --source, with patches), a bzImage or a built kernel tree; or a stored run",
    "b": "the second, the same way; what it leaves out is the first one's: `+fix.patch`",
    "patch": "a patch for B alone, on top; may be repeated, in order",
    "range": "commits of --source for B, BASE..TIP or LAST:N; A is what they stand on",
    "source": "a kernel tree or a tarball to build both from, instead of Debian's",
    "config": "a fragment of kernel options for both; may be repeated, in order",
    "counts": RUN_HELP["counts"],
    "operations": RUN_HELP["operations"],
    "arms": RUN_HELP["arms"],
    "blocks": "how often to measure both, each time in two fresh guests; default 20, in virtual "
    "time 10",
    "trials": "trials in each guest, of which the median is the guest's value; default 5, in "
    "virtual time 3",
    "warmup": "trials before them that are thrown away; default 1 with --trials above 1, else 0",
    "threshold": "the smallest change that matters, in per cent; default 3, in virtual time 0.25",
    "until": "conclusive: measure more blocks until it is known what B is",
    "max-time": "seconds after which --until conclusive begins no further block; default 600",
    "seed": RUN_HELP["seed"],
    "jobs": RUN_HELP["jobs"],
    "boot": RUN_HELP["boot"],
    "timeout": RUN_HELP["timeout"],
    "boot-timeout": RUN_HELP["boot-timeout"],
    "noise": RUN_HELP["noise"],
    "output": "a folder for the results; default results/<UTC time>-compare",
    "results": "the folder below which stored runs are looked for by name",
    "json": RUN_HELP["json"],
}
PROFILE_HELP = {
    **MACHINE_HELP,
    "against": "a second kernel, as `invoke compare` takes it: `+fix.patch`, `sysfs`, `@v6.13`; "
    "both are profiled, and the first one's costs subtracted from this one's",
    "operation": "what to profile: create, mtu, up, down, address, group or delete",
    "arm": f"the way to do it. {ARMS_TEXT}. Left out: {limits_text()}",
    "interfaces": "the number of interfaces",
    "samples": "samples of the work to take; default: until the top symbol's share is known "
    "within 2 points at 95 %, 1000 at least; 10000 of the first kernel with --against",
    "frequency": "samples a second on each CPU",
    "timeout": "seconds after which no further repetition begins; default 300",
    "boot-timeout": RUN_HELP["boot-timeout"],
    "output": "a folder for the results; default results/<UTC time>-profile",
    "json": RUN_HELP["json"],
}
JUDGE_HELP = {
    "metric": "go by a figure: operation/arm/interfaces, such as mtu/group/1024",
    "above": "from where on the figure is bad: 10% or 1.5x of the good kernel's, or 0.2s, 200ms",
    "max-blocks": "measurements of one kernel before it is skipped as unclear",
    "fault": "go by faults, and only these: crash, hang, fail, warning; comma-separated",
    "title": "only faults whose report has this text, or fingerprint; any other is skipped",
    "selftest": "go by the kernel's own self-tests: tests, as `invoke selftest` takes them",
    "tries": "runs without a fault before a kernel is good, for a fault that comes and goes",
    "counts": RUN_HELP["counts"],
    "operations": RUN_HELP["operations"],
    "arms": RUN_HELP["arms"],
    "timeout": RUN_HELP["timeout"],
}
SERIES_HELP = {
    **KERNEL_HELP,
    **MACHINE_HELP,
    "kernel": "flavours that each state is built as, comma-separated",
    "scenario": RUN_HELP["scenario"],
    "operations": RUN_HELP["operations"],
    "counts": RUN_HELP["counts"],
    "arms": f"ways to do it, comma-separated, or all. {ARMS_TEXT}",
    "blocks": "rounds that have each kernel once, in a guest of its own; default: 10, or more "
    "where so many comparisons need them",
    "trials": "trials of each guest, of which the median counts; default 5, in virtual time 3",
    "fail-above": "per cent; a patch that is surely slower by more than that fails; default 3, in "
    "virtual time 0.5",
    "seed": RUN_HELP["seed"],
    "boot": "resume (from a saved guest) or direct",
    "boot-timeout": RUN_HELP["boot-timeout"],
    "output": "a folder for the results; default results/<UTC time>-series",
    "json": RUN_HELP["json"],
}
SELFTEST_HELP = {
    **KERNEL_HELP,
    **MACHINE_HELP,
    **EXPORT_HELP,
    "kernel": "one kernel: a flavour, built with the options that the tests want, a bzImage or a "
    "built kernel tree",
    "tests": "tests or collections below tools/testing/selftests, comma-separated: "
    "net/rtnetlink.sh, net, net/tls",
    "boot": "auto (resume from four tests on), direct (kernel and initramfs), or resume (from a "
    "saved guest)",
    "timeout": "seconds that one test may take, the guest's in virtual time; default: its "
    "collection's own, five times that where the CPU is emulated and the clock real",
    "retry": "how often a test that failed is tried again",
    "memory": "the guest's memory in MiB; default 512",
    "boot-timeout": RUN_HELP["boot-timeout"],
    "output": "a folder for the results; default results/<UTC time>-selftest",
    "json": RUN_HELP["json"],
}
RUN_WORDS = "a run: its folder, a part of its name that no other run has, or `last`"
RESULTS_HELP = "the folder below which runs are looked for by name"
