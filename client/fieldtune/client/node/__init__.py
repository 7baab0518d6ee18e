"""The light node: one process that talks to the coordinator."""
