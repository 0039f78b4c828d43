"""Many hosts: batches of trials on the workers of a Dask scheduler.

Whoever submits builds kernels and images, cuts a batch into parts, and puts what
comes of each into its own folder. A worker has Dask and linklab, fetches what it
lacks by content, and does a part in a process of its own. See docs/fleet.md.
"""
