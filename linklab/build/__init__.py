"""From sources and host programs to immutable artefacts: kernel, userland, agent, images."""
