"""A fleet on one machine: the same client, the same artefact, simulated devices."""
