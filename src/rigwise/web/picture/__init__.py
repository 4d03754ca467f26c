"""Pictures of the pages as small SVG, drawn from the documents that ``--json`` prints.

They share ticks, limits and the placing of words with ``report.figures``, and take their colours from
the style sheet by class, so that they follow the reader's theme. Altair's engine takes 70 to 350 ms of
processor time for one of them; these take about one, so that a picture can move with a slider.
"""
