"""The report's parts: reading a study, its numbers, its pictures, its page. `stages/report.py` puts them together.

study.py     every file of the chosen study, read once
numbers.py   mean, spread, and what can be told apart; metrics.json
shapes.py    patches, masks and patch features of a few test shapes
charts.py    small SVG charts inside the page: they follow its colours and its width, and need no script
figures.py   the same pictures as PNG files, for `dvc plots` and for slides
page.py      the page: index.html.j2 filled in
"""
