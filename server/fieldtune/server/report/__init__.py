"""The report: what ``pareto.json`` says, as a table for the terminal and as one HTML file.

``view`` works out what is to be said, ``format`` how a figure is written; ``table`` prints,
``figures`` draws and ``html`` lays out. Only the last two need plotly, and only they import it.
"""
