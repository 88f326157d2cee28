"""Where the code of a run comes from: its commit, and the page on which others can read it. Never imports torch."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import artune

# A remote on a host: https://host/owner/repository.git, ssh://git@host:22/owner/repository.git, git@host:owner/...
ON_A_HOST = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^@/]+@)?([\w-]+(?:\.[\w-]+)+)(?::\d+)?/|[\w.-]+@([\w-]+(?:\.[\w-]+)+):/?)"
    r"(.+?)(?:\.git)?/?"
)


def git(*arguments: str) -> str | None:
    """Output of a git command in the source's own repository; None without git or outside a repository."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=Path(artune.__file__).parent,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def web_address(remote: str | None) -> str | None:
    """The page of a git remote, without any password of its address; None for a folder or no remote at all."""
    found = ON_A_HOST.fullmatch((remote or "").strip())
    return f"https://{found[1] or found[2]}/{found[3]}" if found else None


@dataclass(frozen=True)
class SourceCode:
    """The code that made a run."""

    commit: str = "unknown"
    changed: bool = False  # whether files differed from the commit
    address: str | None = None  # page of the repository, if its remote is on a host

    def tags(self) -> dict[str, str]:
        """The tags by which MLflow shows the source of a run; it links source and commit if the remote is known."""
        tags = {"mlflow.source.name": self.address or "artune", "mlflow.source.type": "LOCAL"}
        if self.commit != "unknown":
            tags |= {"mlflow.source.git.commit": self.commit, "mlflow.source.git.dirty": str(self.changed).lower()}
        if self.address and self.commit != "unknown":  # MLflow links the commits of projects only
            tags |= {"mlflow.source.type": "PROJECT", "mlflow.source.git.repoURL": self.address}
        return tags

    def link(self) -> str:
        """The commit in Markdown; a link if the remote is known."""
        if self.commit == "unknown":
            return "code of no known commit"
        shown = f"commit `{self.commit[:8]}`" + (" with changes that were not committed" if self.changed else "")
        return f"[{shown}]({self.address}/commit/{self.commit})" if self.address else shown


def code_of(commit: str, changed: bool) -> SourceCode:
    """The code at ``commit`` in the repository of this process."""
    return SourceCode(commit, changed, web_address(git("remote", "get-url", "origin")))


def present_code() -> SourceCode:
    """The code of this process."""
    return code_of(git("rev-parse", "HEAD") or "unknown", bool(git("status", "--porcelain", "--untracked-files=no")))
