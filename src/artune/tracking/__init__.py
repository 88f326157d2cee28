"""Records of a run: JSON lines are the record, and MLflow is a view that can be rebuilt from them.

- run_logger: a training's JSON lines and its live view in MLflow
- mlflow_run: one run in MLflow
- mlflow_store: the tracking store, brought up to date from the files
- run_page: the description and picture of a run in MLflow
- provenance: commit, versions and device behind a number
- artifact_places: artifacts that a moved results folder keeps
- addresses: a SQLite file or a server
"""
