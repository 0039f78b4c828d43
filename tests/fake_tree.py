"""A kernel tree in miniature: make, Kconfig and kbuild's habits, in a second.

Its Makefile does what the lab relies on: it configures in `KCONFIG_CONFIG`,
compiles out of tree, prints a line for each file, writes a `.cmd` file after
each object, and takes an object for good whose time is younger than its
source's.
"""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path

from fake_modules import module

RELEASE = "6.6.6-fake"

MAKEFILE = r"""
VERSION = 6
PATCHLEVEL = 6
SUBLEVEL = 6

S := $(CURDIR)
SOURCES := $(sort $(wildcard $(S)/net/*.c))
OBJECTS := $(patsubst $(S)/%.c,$(O)/%.o,$(SOURCES))

ifndef O
$(error no O)
endif

tinyconfig: ; $(Q)cp $(S)/tiny.config $(KCONFIG_CONFIG)
olddefconfig: ; $(Q)sh $(S)/scripts/kconfig.sh $(S) $(KCONFIG_CONFIG)

bzImage: $(O)/arch/x86/boot/bzImage

$(O)/net/%.o: $(S)/net/%.c $(O)/.config
	@echo "  CC      net/$*.o"
	@mkdir -p $(@D) && MAKE_PID=$$PPID sh $(S)/scripts/cc.sh $< $@
	@echo 'deps_net/$*.o := $< $$(wildcard include/config/SYSFS)' > $(O)/net/.$*.o.cmd

$(O)/vmlinux: $(OBJECTS)
	@echo "  LD      vmlinux"
	@cat $(OBJECTS) > $(O)/objects
	@$(CC) -Wl,--build-id=none -nostdlib -static -o $@ $(S)/start.c
	@echo map > $(O)/System.map
	@mkdir -p $(O)/include/config && echo 6.6.6-fake > $(O)/include/config/kernel.release

$(O)/arch/x86/boot/bzImage: $(O)/vmlinux
	@echo "  BUILD   arch/x86/boot/bzImage"
	@mkdir -p $(@D) && cat $(S)/header.bin $(O)/objects > $@

modules: $(O)/vmlinux
	@echo "  MODPOST Module.symvers"
	@echo symbols > $(O)/Module.symvers
	@echo kernel/net/ipv6.ko > $(O)/modules.builtin
	@echo net/veth.o > $(O)/modules.order
	@cp $(S)/veth.bin $(O)/net/veth.ko
	@mkdir -p $(O)/include/generated && touch $(O)/include/generated/autoconf.h
"""

# `dropped` names options that this Kconfig does not let through.
KCONFIG_SH = r"""
set -e
tree=$1 config=$2
while read -r name; do
    sed -i "s/^$name=.*/# $name is not set/" "$config"
done < "$tree/dropped"
while read -r line; do
    echo "$line" >> "$config"
done < "$tree/forced"
"""

# What a file says on its first line happens to it. While there is a file `slow`
# beside the work tree, an object is begun and not finished.
CC_SH = r"""
set -e
if [ -e "$(dirname "$0")/../../slow" ]; then
    head -c 1 "$1" > "$2"
    exec sleep 5
fi
case $(head -n 1 "$1") in
"// wrong") echo "$1: In function 'f':"; echo "$1:2:1: error: 'x' undeclared"; exit 1 ;;
"// full") echo "cc1: error: $2: No space left on device"; exit 1 ;;
"// killed") echo "gcc: fatal error: Killed signal terminated program cc1"; exit 1 ;;
"// tool") nothing-of-that-name ;;
"// header") echo "$1:1:10: fatal error: gelf.h: No such file or directory"; exit 1 ;;
"// stubborn") trap "" TERM; echo > "$2"; sleep 30; sleep 30 ;;
"// warns") echo "$1: In function 'f':"; echo "$1:1:5: warning: unused variable 'x'" ;;
"// sysfs") grep -q CONFIG_SYSFS=y "$(dirname "$2")/../.config" ||
    { echo "$1:1:2: error: #error no sysfs"; exit 1; } ;;
"// suicide") kill -9 "$MAKE_PID"; sleep 60 ;;
esac
cat "$1" > "$2"
"""

KCONFIG = """
mainmenu "fake"
source "net/Kconfig"
source "arch/$(SRCARCH)/Kconfig"
"""

NET_KCONFIG = """
config SYSFS
	bool "sysfs"

config NEEDED
	bool "an option with a need"
	depends on ABSENT && SYSFS

config CHOOSY
	bool "it selects"
	select CHOSEN

config CHOSEN
	bool "it is selected"
"""


def header(release: str = RELEASE) -> bytes:
    """Return the beginning of a bzImage, as Documentation/arch/x86/boot.rst has it."""
    head = bytearray(0x400)
    struct.pack_into("<H", head, 0x1FE, 0xAA55)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    text = f"{release} (linklab@linklab) #1\0".encode()
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


def make_tree(folder: Path) -> Path:
    """Write a kernel tree in miniature into a new folder."""
    files: dict[str, str | bytes] = {
        "Makefile": MAKEFILE.lstrip(),
        "Kconfig": KCONFIG.lstrip(),
        "net/Kconfig": NET_KCONFIG.lstrip(),
        "arch/x86/Kconfig": "",
        "scripts/kconfig.sh": KCONFIG_SH.lstrip(),
        "scripts/cc.sh": CC_SH.lstrip(),
        "tiny.config": "# tiny\nCONFIG_KERNEL_XZ=y\n# CONFIG_SYSFS is not set\n",
        "dropped": "",
        "forced": "",
        "start.c": "void _start(void) { for (;;); }\n",
        "header.bin": header(),
        "veth.bin": module("ipv6"),
        "net/a.c": "// a\none\ntwo\nthree\n",
        "net/b.c": "// b\n",
        ".gitignore": "*.o\n/.config\n",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def make_tarball(tree: Path, target: Path, mode: str = "w:xz") -> Path:
    """Pack a tree as a distribution does: in a folder of its own name."""
    with tarfile.open(target, mode) as tar:  # type: ignore[call-overload]
        tar.add(tree, arcname="linux-6.6")
    return target


PATCH = """From: A Person <person@example.org>
Subject: [PATCH] net: one becomes 1

---
 net/a.c | 2 +-

diff --git a/net/a.c b/net/a.c
--- a/net/a.c
+++ b/net/a.c
@@ -1,4 +1,4 @@
 // a
-one
+1
 two
 three
"""

STALE_PATCH = """diff --git a/net/a.c b/net/a.c
--- a/net/a.c
+++ b/net/a.c
@@ -1,4 +1,4 @@
 // a
-something else
+1
 two
 three
"""
