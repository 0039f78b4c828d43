"""The kernel's console, read: lines, the reports in them, and what they say.

Pure: bytes and text in, values out. Nothing here waits, opens a file or knows
of a machine.
"""
