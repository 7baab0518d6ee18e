"""The judge of the tuner: problems, peers, and scores that are hard to fool.

``python simulations/benchmarks/tuner`` runs it; ``docs/benchmark.md`` says what is measured.
"""
