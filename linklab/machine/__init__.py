"""A machine: what to start, as a value; the QEMU process, and its end."""
