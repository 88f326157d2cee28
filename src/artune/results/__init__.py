"""Results for a reader: tables, figures, claims, the report, the human study.

- tables: a table's rows from the scores of its runs
- mixture: whether scores may stand side by side
- seed_differences: a table's rows compared seed by seed
- table_text: a table as Markdown and LaTeX
- claims: a verdict for each of the paper's claims
- committed: the same from committed tables, where the files of the runs are gone
- measurers: who measures a score at a scale: the reward's own network, and judges that no reward used
- comparisons: the numbers behind a verdict
- verdicts: from a difference and its error to a verdict
- expected: the range in which a number is expected, from other seeds and machines
- figures: the paper's figures
- report: everything on one page
- study: the human study behind Table 3
"""
