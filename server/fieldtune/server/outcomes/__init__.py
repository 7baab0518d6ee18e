"""The outcomes of trials."""
