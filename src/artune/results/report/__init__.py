"""One HTML file of tables, figures, claims, costs and settings, of one or several scales.

- page: rendering the page
- part: what is there of a scale, and what is missing
- grids: its tables, cell by cell
- verdicts: its claims, judged as far as the files are there
- costs: its seconds per stage
- runs: its runs, their settings and the commands that make them
- origins: where the numbers come from: commit, device, seconds
- rulegraph: a picture of the workflow's rules
"""
