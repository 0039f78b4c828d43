"""From manifests and programs of this host to an initramfs and an ISO."""
