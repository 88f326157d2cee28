"""``report.html``: tables, figures, claims, costs, workflow and provenance of a scale, in one file that needs no other.

``page`` puts it together, ``rulegraph`` draws the workflow, ``origins`` says what every run was made with.
"""
