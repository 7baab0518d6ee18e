"""The federated algorithms, and the interface to a fleet of clients."""
