"""Exceptions whose messages are written for the user, and what every such text goes through."""

import difflib
import os
import re
import reprlib
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

LONGEST = 100  # characters of a value in a message
WORD = re.compile(r"'[^']{201,}'|\"[^\"]{201,}\"|\S{201,}")  # a value that nobody shortened; paths are shorter
MOST_OF_A_MESSAGE = 2000  # characters; a longer one loses its middle
SECRET = "***"
# A password or token in an address: before the host (up to the last @, because passwords hold / and @ too), or under a
# telling name among the options; and such a name, or a header, outside an address.
SIGNED_IN = re.compile(r"(?<=://)([^\s/?#@:]*):\S*@")
TOKEN_ONLY = re.compile(r"(?<=://)[^\s/?#:]+@")
# A text that is nothing but an address, with spaces in its password; what begins with a number is a port.
WHOLE = re.compile(r"([a-z][\w+.-]*://[^\s/?#@:]*):(?!\d+\b).*@([^@\s]*)", re.I)
NAMED = "token|passw(?:or)?d|passphrase|pwd|secret|signature|sig|credentials?|api_?key|access_?key|auth(?:orization)?"
QUOTED = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
# A value in quotes, which may lack the second one because a message was cut; and a quote that ends a text around it.
WHOLE_QUOTED = rf"(?:{QUOTED})(?=[\s&#,;)\]}}>]|$)|\"(?=\S)[^\"\n]*(?=\n|\Z)|'(?=\S)[^'\n]*(?=\n|\Z)"
CLOSING = r"['\"](?:[\s&#,;:.)\]}>'\"]|$)|[;>](?:\s|$)"
OPTION = re.compile(
    rf"([?&;#][\w.%-]{{0,40}}(?:{NAMED}|key)[\w.%-]{{0,40}}=)"
    rf"(?:{WHOLE_QUOTED}|(?:(?!{CLOSING})(?:{QUOTED}|[^\s&#]))+)",
    re.I,
)
ASSIGNED = re.compile(  # but for what is hidden already
    rf"(\b(?:[a-z]{{1,20}}[_-]){{0,4}}(?:{NAMED})\s*=\s*)(?!\*{{3}}[&#])"
    rf"(?:{WHOLE_QUOTED}|(?:(?!{CLOSING})[^\s&;,<>])+)",
    re.I,
)
HEADER = re.compile(r"(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic)\s+)?)[^\s'\"]+", re.I)
# Variables of the environment whose whole value is a secret. A shorter value would be found inside ordinary words.
VARIABLE = re.compile(r"(?:PASSWORD|PASSWD|TOKEN|SECRET|SECRET_ACCESS_KEY|API_?KEY|SAS)$")
SHORTEST_SECRET = 6
# The files that the rules of the workflow make; a test compares them with workflow/rules.
MADE = re.compile(
    r"""results/(?:\w+\.(?:csv|md|tex|pdf|png|txt)|report\.html|(?P<scale>[a-z0-9_]+)(?:-(?P<preset>[a-z]+))?/(?:
        runs/[\w-]+/(?:snapshots/\d+\.safetensors|config\.yaml|policy\.safetensors|grid\.png|(?:metrics|timings)\.jsonl
            |(?:samples|features)\.npz|(?:scores|manifest|official)\.json)
        |pretrained/(?:external/)?[\w-]+/(?:(?:policy|tokenizer)\.safetensors|codes\.npz)
        |inputs/(?:data\.npz|networks/[\w-]+\.safetensors)|assets/\w+\.json
        |(?:reference|class_moments)[\w-]*\.npz|references/[\w-]+\.npz
        |bench/iteration/(?:timings\.jsonl|manifest\.json)
        |tables/\w+(?:(?:\.compare|\.seeds)?\.csv|(?:\.seeds)?\.md|\.tex)
        |figures/(?:\w+\.(?:pdf|png|txt)|samples/\w+/[\w-]+\.npz)
        |study/(?:pairs\.zip|(?:judge|tally)\.json|samples/[\w-]+\.npz)|tracking/\w+\.json
        |costs\.csv|claims\.(?:csv|json)|rulegraph\.mmd|report\.html))""",
    re.VERBOSE,
)

# Extra of pyproject.toml -> the modules that it brings and that a command or a public name imports.
EXTRAS = {
    "networks": ("open_clip", "timm", "torch_fidelity", "torchvision", "PIL"),
    "workflow": ("snakemake", "mlflow", "pandas", "matplotlib", "mlxtend", "pygments", "filelock", "tqdm"),
    "study": ("fastapi", "uvicorn"),
}


class ArtuneError(Exception):
    """Bad input, or a state that the user must fix.

    The message is one line that names the file, key or argument and says what to do; the command line prints it
    without a traceback and exits with status 2. A line break or control character in a quoted key or name is shown as
    its escape sequence, and passwords in addresses are left out (:func:`without_secrets`).
    """

    def __init__(self, message: str):
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut(message, 20_000))
        line = WORD.sub(lambda word: cut(word[0]), without_secrets(line))
        super().__init__(cut(line, MOST_OF_A_MESSAGE))


def not_installed(what: str, module: str) -> ArtuneError | None:
    """The error of ``what``, which lacks a module that an extra of the package brings; None for any other module."""
    name = module.split(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if name in modules), None)
    return ArtuneError(f"{what} needs {name}: pip install 'artune[{extra}]'") if extra else None


def no_such_file(path: str | os.PathLike[str], then: str = "") -> ArtuneError:
    """The error of a file that is missing; one that a rule of the workflow makes comes with the command that makes it.

    Args:
        path: the file, as the user would write it.
        then: what to do about any other file, such as ``fetch the asset first``.
    """
    made = MADE.fullmatch(os.path.normpath(path).removeprefix(os.getcwd() + os.sep))
    if made is None:
        return ArtuneError(f"{path}: no such file{f'; {then}' if then else ''}")
    settings = [f"{key}={made[key]}" for key in ("scale", "preset") if made[key]]
    options = ["--config", *settings, "--", made[0]] if settings else ["--", made[0]]
    return ArtuneError(f"{path}: no such file; `snakemake -c2 {' '.join(options)}` makes it")


class SharedError(ArtuneError):
    """An error that every process of a command raises at the same place; only rank 0 prints it."""


class StoppedError(SharedError):
    """A signal asked the command to stop and its state is saved; the exit status is not 0, so that it is run again.

    Args:
        message: what was stopped, by which signal, and where.
        status: the exit status that a shell reports for a process that the signal ended: 129 for SIGHUP, else 143.
    """

    def __init__(self, message: str, status: int = 143):
        super().__init__(message)
        self.status = status


def without_secrets(text: str) -> str:
    """``text`` with ``***`` in place of the passwords and tokens of addresses.

    Applied wherever text leaves the program: errors, warnings, the last line of a command, ``doctor``, tracebacks. In
    an address the password goes (``http://alice:***@host``), or all before the ``@`` if there is no password, because
    some services take a token there; and so do the values of options like ``?token=``, in quotes or not. The values of
    variables of the environment such as ``MLFLOW_TRACKING_PASSWORD`` go wherever they stand.
    """
    if whole := WHOLE.fullmatch(text):  # then a password may hold spaces, too
        text = f"{whole[1]}:{SECRET}@{whole[2]}"
    text = HEADER.sub(rf"\1{SECRET}", text)
    text = TOKEN_ONLY.sub(f"{SECRET}@", SIGNED_IN.sub(rf"\1:{SECRET}@", text))
    text = ASSIGNED.sub(rf"\1{SECRET}", OPTION.sub(rf"\1{SECRET}", text))
    for value in _secrets_of_the_environment():
        text = text.replace(value, SECRET)
    return text


def _secrets_of_the_environment() -> Iterator[str]:
    """Values of telling variables, and the passwords of addresses, as written and decoded; none that is very short."""
    for name, value in os.environ.items():
        found = [value] if VARIABLE.search(name.upper()) else []
        if address := re.search(r"://[^/?#@:]*:(.*)@", value):
            found += [address[1], unquote(address[1])]
        yield from (secret for secret in found if len(secret) >= SHORTEST_SECRET)


def cut(text: str, most: int = LONGEST) -> str:
    """``text`` of at most ``most`` characters; the middle of a longer one becomes dots."""
    if len(text) <= most:
        return text
    tail = (most - 3) // 3
    return f"{text[: most - 3 - tail]}...{text[-tail:]}"


class _Brief(reprlib.Repr):
    """``repr`` that visits only the first few parts of a value, however many its aliases or its digits would give."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother, self.maxstring = 3, LONGEST, LONGEST
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 6

    def repr_int(self, value: int, level: int) -> str:  # Python refuses to print more than 4,300 digits
        return repr(value) if value.bit_length() <= 256 else f"a whole number of {value.bit_length():,} bits"


def brief(value: object) -> str:
    """``repr(value)`` in at most :data:`LONGEST` characters, in a time that does not depend on its size."""
    return cut(_Brief().repr(value))


def near(name: object, known: Iterable[str]) -> str:
    """A hint such as ``did you mean llamagen_l-ours?``; an empty string if no known name is similar to ``name``."""
    text = cut(name) if isinstance(name, str) else brief(name)
    found = difflib.get_close_matches(text, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(found)}?" if found else ""


def unknown(name: object, known: Iterable[str], what: str = "", most: int = 20) -> str:
    """The text of an error, such as ``unknown run 'llamagen_l-our'; did you mean llamagen_l-ours?``.

    Args:
        name: the name that was asked for.
        known: all valid names; listed if none of them is similar.
        what: the kind of thing that is named, such as ``run``.
        most: largest number of names that are listed.
    """
    names = list(known)
    asked = f"unknown {what} {brief(name)}" if what else f"unknown {brief(name)}"
    if meant := near(name, names):
        return f"{asked}; {meant}"
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{asked}; known are {listed}"
