"""Self-tests in miniature, in a kernel tree in miniature: two collections, real make and gcc."""

from __future__ import annotations

from pathlib import Path

from fake_tree import make_tree

LIB_MK = """
OUTPUT ?= $(CURDIR)
CFLAGS += $(KHDR_INCLUDES)
TEST_GEN_PROGS := $(patsubst %,$(OUTPUT)/%,$(TEST_GEN_PROGS))
TEST_GEN_FILES := $(patsubst %,$(OUTPUT)/%,$(TEST_GEN_FILES))
all: $(TEST_GEN_PROGS) $(TEST_GEN_FILES)
$(OUTPUT)/%: %.c ; @$(CC) $(CFLAGS) -o $@ $< $(LDLIBS)
"""

NET_MAKEFILE = """
TEST_PROGS := hello.sh uses.sh
TEST_GEN_PROGS = good bad lonely unlinked
TEST_GEN_FILES += helper
TEST_PROGS_EXTENDED := byhand.sh
TEST_FILES := settings
TEST_INCLUDES := ../elsewhere/shared.sh
include ../lib.mk
$(OUTPUT)/unlinked: LDLIBS += -lnosuchthing
"""

HEADERS = """
headers:
	@mkdir -p $(O)/usr/include/linux
	@echo '#define FROM_THE_KERNEL 42' > $(O)/usr/include/linux/fromthekernel.h
"""

GOOD = """
#include <linux/fromthekernel.h>
int main(void) { return FROM_THE_KERNEL - 42; }
"""

FILES = {
    "lib.mk": LIB_MK,
    "kselftest.h": "",
    "kselftest/runner.sh": "skip_rc=4\n",
    "elsewhere/Makefile": "TEST_PROGS := other.sh\ninclude ../lib.mk\n",
    "elsewhere/shared.sh": "shared=1\n",
    "elsewhere/other.sh": "#!/bin/sh\n",
    "empty/Makefile": "include ../lib.mk\n",
    "broken/Makefile": "$(error this collection cannot be read)\n",
    "net/Makefile": NET_MAKEFILE,
    "net/config": "CONFIG_NET_NS=y\nCONFIG_VETH=m\n# why\nnonsense\n# CONFIG_OFF is not set\n",
    "net/settings": "timeout=3600\n",
    "net/hello.sh": "#!/bin/sh\n. ./lib.sh\nnft list\n",
    "net/uses.sh": "#!/bin/bash\n./helper && ./lonely\n",
    "net/byhand.sh": "#!/bin/sh\n",
    "net/lib.sh": "command -v frobnicator\nip link\n",
    "net/good.c": GOOD,
    "net/bad.c": "int main(void) { return nothing; }\n",
    "net/lonely.c": "#include <numa.h>\nint main(void) { return 0; }\n",
    "net/unlinked.c": "int main(void) { return 0; }\n",
    "net/helper.c": "int main(void) { return 0; }\n",
    "net/inner/Makefile": "TEST_PROGS := deep.sh\ninclude ../../lib.mk\n",
    "net/inner/deep.sh": "#!/bin/sh\n",
    "net/data/packet.pkt": "+0 socket()\n",
}


def make_selftests(folder: Path) -> Path:
    """Write a kernel tree with self-tests into a new folder."""
    tree = make_tree(folder)
    (tree / "Makefile").write_text((tree / "Makefile").read_text() + HEADERS)
    for name, content in FILES.items():
        path = tree / "tools/testing/selftests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tree
