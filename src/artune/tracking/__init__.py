"""Records of a run: JSON lines are the record, and MLflow is a view that can be rebuilt from them.

- run_logger: a training's JSON lines and its live view in MLflow
- usage: load of the machine while a run is trained
- mlflow_run: one run in MLflow
- mlflow_store: the tracking store, brought up to date from the files
- sqlite_store: a store in a SQLite file, made whole and changed by one process at a time
- run_page: the description and picture of a run in MLflow
- run_facts: the settings that people compare, data sets and owner of a run
- pages: MLflow's pages with what they lack for people without a mouse or with weak eyes
- saved_views: views of MLflow's pages that open on a table, and the links to them
- source_code: commit and repository of the code
- provenance: commit, versions and device behind a number
- artifact_places: artifacts that a moved results folder keeps
- addresses: a SQLite file or a server
"""
