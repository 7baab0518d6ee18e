"""What runs on the coordinator: study, tuner, compiler, aggregation and report."""
