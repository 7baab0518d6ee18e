"""From outcomes to a decision and its files."""
