"""The report: what ``pareto.json`` says, as a table for the terminal and as one HTML page.

``view``, ``trials_view`` and ``space_view`` work out what is to be said, ``format`` how a figure is
written. ``table`` prints.
``html`` puts the page together from ``assets`` and ``page_data``; pictures are drawn by the page's
own script.
"""
