"""One session of a study: from ``fieldtune tune`` to its end or interruption."""
