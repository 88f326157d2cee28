"""The shape of the code base: sizes, import direction, and names that the documentation gives."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from artune.commands.arguments import COMMANDS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/artune"
SOURCES = sorted(PACKAGE.rglob("*.py"))
NAMES = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in SOURCES}
# The packages that the modules of a package may import; every module may import ``errors``.
MAY_IMPORT = {
    "config": "",
    "runtime": "",
    "metrics": "",
    "data": "config runtime",
    "tracking": "config runtime",
    "models": "config runtime data",
    "sampling": "config runtime data models",
    "rewards": "config metrics data sampling",
    "inputs": "config runtime metrics data models",
    "planning": "config runtime data tracking",
    "evaluation": "config runtime metrics data models sampling",
    "scoring": "config runtime metrics data tracking models evaluation",
    "tuning": "config runtime data tracking models sampling rewards inputs",
    "results": "config runtime metrics data tracking models sampling rewards tuning",
    "bench": "config runtime metrics data tracking models sampling rewards planning evaluation tuning",
    "commands": "*",
}
AT_THE_TOP = ("__init__", "__main__", "errors")  # the only modules beside the packages
LIGHT = ("config", "planning", "tracking", "commands")  # modules of these packages never load torch or mlflow
HEAVY = ("tracking.provenance",)  # exceptions to LIGHT: these modules may load them
MOST_MODULES, MOST_LINES, MOST_LINES_OF_MODELS, MOST_LINES_OF_A_FUNCTION = 12, 300, 400, 60


def imports(path):
    """Modules of this project that a file imports, at the top or inside a function."""
    known = set(NAMES.values())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "artune":
            module = (node.module or "").removeprefix("artune").lstrip(".")
            for name in (name.name for name in node.names):
                whole = f"{module}.{name}".lstrip(".")
                package = f"{whole}.__init__" in known  # `from artune import results`
                yield whole if whole in known or package else module
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield f"relative import in line {node.lineno}"  # which no package may do
        elif isinstance(node, ast.Import):
            yield from (name.name.removeprefix("artune.") for name in node.names if name.name.startswith("artune."))


def package_of(name):
    return name.split(".")[0]


def allowed_to(package):
    """The other packages that the modules of ``package`` may import."""
    return set(MAY_IMPORT) - {package} if MAY_IMPORT[package] == "*" else set(MAY_IMPORT[package].split())


@pytest.mark.parametrize("path", SOURCES, ids=NAMES.values())
def test_modules_import_only_what_their_package_may(path):
    own = package_of(NAMES[path])
    assert own in MAY_IMPORT or NAMES[path] in AT_THE_TOP, f"{own}: give it a line in MAY_IMPORT"
    allowed = MAY_IMPORT.get(own, "*").split()
    if "*" in allowed:
        return
    for module in imports(path):
        other = package_of(module)
        assert other in (own, "errors", "", "__init__", *allowed), f"{NAMES[path]} imports {module}"


def test_modules_form_no_circle():
    graph = {NAMES[path]: {module for module in imports(path) if module} for path in SOURCES}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # a CycleError names the circle


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=str)
def test_a_package_is_a_docstring_that_names_its_modules(path):
    body = ast.parse(path.read_text()).body
    if path.parent == PACKAGE:
        return
    assert len(body) == 1, f"{path}: holds code"
    inside = [item.stem for item in path.parent.iterdir() if item.suffix == ".py" and item.stem != "__init__"]
    assert len(inside) <= MOST_MODULES, f"{path.parent} holds {len(inside)} modules"
    inside += [item.name for item in path.parent.iterdir() if (item / "__init__.py").exists()]
    missing = [name for name in inside if not re.search(rf"\b{name}\b", ast.get_docstring(ast.parse(path.read_text())))]
    assert not missing, f"{path} does not name {', '.join(missing)}"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES.values())
def test_files_stay_readable(path):
    lines = len(path.read_text().splitlines())
    assert lines <= (MOST_LINES_OF_MODELS if "models" in path.parts else MOST_LINES), f"{path.name} has {lines} lines"
    assert path.stem not in ("utils", "helpers", "misc", "common", "base")
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    long = [node.name for node in functions if node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION]
    assert not long, f"{path.name}: longer than {MOST_LINES_OF_A_FUNCTION} lines: {', '.join(long)}"


@pytest.mark.parametrize("path", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda path: path.name)
def test_rule_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 150


def test_a_test_file_has_a_name_of_its_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}  # pytest imports test files by their names


def test_light_packages_never_load_torch_or_mlflow():
    light = [name for name in NAMES.values() if package_of(name) in LIGHT and name not in HEAVY]
    modules = ", ".join(f"artune.{name.removesuffix('.__init__')}" for name in light)
    code = f"import sys, {modules}; print([name for name in ('torch', 'mlflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_rule_runs_the_command_of_its_name():
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule, body in re.findall(r"\n *rule (\w+):(.*?)(?=\n *rule |\Z)", path.read_text(), re.S):
            if rule.startswith("publish_"):
                continue
            command = re.search(r"-m artune (\w+)", body)
            assert command, f"{path.name}: rule {rule} runs no command"
            assert command[1] in COMMANDS
            assert command[1] == {"study_table": "table", "report_so_far": "report"}.get(rule, rule)


@pytest.mark.parametrize("page", ["README.md", "docs/code.md"])
def test_pages_point_at_code_that_exists(page):
    text = (ROOT / page).read_text()
    rows = re.findall(r"`src/artune/([\w/]+)\.py`: ((?:`[\w.]+`(?:, )?)+)", text)
    assert len(rows) >= 5
    for module, names in rows:
        loaded = importlib.import_module(f"artune.{module.replace('/', '.')}")
        for name in re.findall(r"`([\w.]+)`", names):
            value = loaded
            for part in name.split("."):
                value = getattr(value, part)
    for path in re.findall(r"`((?:src|config|workflow|tests|envs|docs)/[\w/.*-]+)`", text):
        assert list(ROOT.glob(path.rstrip("/"))), f"{page} names {path}, which does not exist"


@pytest.mark.parametrize("stage", ["inputs", "tuning", "evaluation", "results"])
def test_a_stage_has_one_name_everywhere(stage):
    rules = ROOT / f"workflow/rules/{stage}.smk"
    for path in (PACKAGE / stage / "__init__.py", PACKAGE / f"commands/{stage}.py", rules, ROOT / "tests/unit" / stage):
        assert path.exists(), path


def implied(package):
    """Packages that the packages below ``package`` may import, at any depth; the drawing leaves these arrows out."""
    below = {other for name in allowed_to(package) for other in allowed_to(name)}
    return below.union(*map(implied, below))


def test_the_page_of_the_code_lists_every_package_and_draws_the_import_rule():
    text = (ROOT / "docs/code.md").read_text()
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.M)) == packages
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", text, re.M))
    assert drawn == {(name, other) for name in MAY_IMPORT for other in allowed_to(name) - implied(name)}


def test_help_is_instant():
    code = "import time; t = time.perf_counter(); from artune.commands import arguments, cli; arguments.parser(); print(time.perf_counter() - t)"
    seconds = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert seconds < 0.5


def test_conda_environments_install_pins_that_exist_and_agree():
    pins = {
        path.name: dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.M)) for path in ROOT.glob("envs/*.txt")
    }
    for path in ROOT.glob("envs/*.yaml"):
        # Conda builds the environment from a copy of this file elsewhere, beside which there is no requirements file.
        assert "pip:" not in path.read_text(), path.name
        script = path.with_suffix(".post-deploy.sh").read_text()
        assert set(re.findall(r"-r envs/(\S+)", script)) <= set(pins)
    ours, official = pins["requirements.txt"], pins["official.txt"]
    assert "tensorflow-cpu" not in ours
    assert "torch" not in official
    for name in ("numpy", "pydantic", "pyyaml", "filelock"):
        assert ours[name] == official[name], name
