"""MLflow's own pages with a style sheet and a script added, so that they hold WCAG's rule AA.

MLflow finds this by its entry point ``mlflow.app``: `mlflow ui --app-name artune`, which `artune browse` starts.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI
    from flask import Response

HERE = Path(__file__).parent
PAGE = "/"  # MLflow has one page, which its script fills
COPIES = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")


def with_aids(page: str) -> str:
    """The HTML ``page`` with the style sheet and the script, which come last and so overrule MLflow's own."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("aids.css", "aids.js"))
    head, end, rest = page.rpartition("</body>")
    return f"{head}<style>{style}</style><script>{script}</script>{end}{rest}" if end else page


def mlflow_app() -> "FastAPI":
    """MLflow's server, whose page has the aids. Artifacts and answers to programs are left as they are."""
    from flask import request
    from mlflow.server import app as inner
    from mlflow.server.fastapi_app import app

    @inner.before_request
    def ask_anew() -> None:
        """A browser's older copy of the page, without the aids, is never good enough."""
        if request.path == PAGE:
            for name in COPIES:
                request.environ.pop(name, None)

    @inner.after_request
    def add(response: "Response") -> "Response":
        if request.path == PAGE and response.mimetype == "text/html":
            response.direct_passthrough = False  # the page is a file, sent without being read
            response.set_data(with_aids(response.get_data(as_text=True)))
            for name in ("ETag", "Last-Modified"):
                response.headers.pop(name, None)
        return response

    return app
