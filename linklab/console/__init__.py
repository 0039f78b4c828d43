"""The kernel's console: its lines, the reports in them, their titles and fingerprints.

Pure: bytes and text in, values out. Nothing here waits, opens a file or knows
of a machine.
"""
