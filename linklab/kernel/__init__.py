"""From sources, patches and config fragments to a kernel that boots."""
