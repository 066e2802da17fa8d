"""The report's parts: reading a study, its numbers, its pictures, its page. `stages/report.py` puts them together.

study.py     every file of the chosen study, read once
numbers.py   mean, spread, and what can be told apart; metrics.json
paired.py    two runs against each other: what every "better" rests on
claims.py    what is claimed (claims.yaml), and what the study says about it; ledger.py prints it
seen.py      test shapes that a training saw, too
results.py   the study's own tables
tables.py    the document's: ours beside what was published (published.yaml), where a recipe (recipes.yaml) is met
recipes.py   which entry of recipes.yaml stands for which row; entries.py compares whole entries
details.py   folds, fine-tunings, robustness, segmented shapes; training.py, maps.py, shapes.py likewise
pictures.py  every picture, once: SVG inside the page, PNG in plots/
grid.py      a table, once: for the page, Markdown, CSV and the terminal
page.py      the page: index.html.j2 filled in
"""
