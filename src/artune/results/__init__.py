"""Results for a reader: tables, figures, claims, the report, the human study.

- tables: a table's rows from the scores of its runs
- mixture: whether scores may stand side by side
- seed_differences: a table's rows compared seed by seed
- baselines: differences of a table's rows to the baseline of their block
- table_text: a table as Markdown and LaTeX
- claims: a verdict for each of the paper's claims
- committed: claims and readable tables from committed CSV files, where the files of the runs are gone
- measurers: who measures a score at a scale: the reward's own network, and judges that no reward used
- comparisons: the numbers behind a verdict
- verdicts: from a difference and its error to a verdict
- expected: the range in which a number is expected, from other seeds and machines
- options: the options of the commands, for the command line
- figures: the paper's figures
- report: everything on one page
- study: the human study behind Table 3
"""
