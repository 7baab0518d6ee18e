"""``python -m fieldtune.client`` is ``fieldtune client``, with nothing else imported."""
