"""One HTML file of tables, figures, claims and provenance.

- page: rendering the page
- origins: where its numbers come from
- rulegraph: a picture of the workflow's rules
"""
