"""docs/reliability.md must have the head, the sections, the faults and the words of the tests that write it."""

import ast
import inspect
import re
from itertools import groupby

import fuzzing
import pytest
import table
from project import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
CELLS = ("fault", "done", "happened", "lost")
FUZZ_ROW = ast.parse(inspect.getsource(fuzzing.row))  # ``row(fault, request, what, seen)`` fills in a fuzz test's row


def pattern(node, known):
    """Regular expression of the texts that an expression may give; its values from a run may be any text."""
    match node:
        case ast.Constant(str(text)):
            return re.escape(" ".join(re.split(r"\s", text)))
        case ast.JoinedStr(parts):
            return "".join(pattern(part, known) for part in parts)
        case ast.BinOp(left, ast.Add(), right):
            return pattern(left, known) + pattern(right, known)
        case ast.IfExp(_, yes, no):
            return f"(?:{pattern(yes, known)}|{pattern(no, known)})"
        case ast.FormattedValue(conversion=conversion) if conversion != -1:
            return ".*"  # a value as Python writes it
        case ast.FormattedValue(value) | ast.Expr(value):
            return pattern(value, known)
        case ast.Name() | ast.Attribute() if ast.unparse(node) in known:
            return known[ast.unparse(node)]
    return ".*"


def assigned(tree, known):
    """Patterns of the values assigned below ``tree``, by the text of the target."""
    found = dict(known)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            found[ast.unparse(node.targets[0])] = pattern(node.value, found)
    return found


def expected(function, constants):
    """Patterns of the four cells of a fault test's row."""
    docstring = re.escape(" ".join(ast.get_docstring(function).split()))
    found = assigned(function, constants | {"fault.fault": docstring})
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "row":
            found |= {"what": pattern(call.args[2], found), "seen": pattern(call.args[3], found)}
            found = assigned(FUZZ_ROW, found)
    return [found[f"fault.{cell}"] for cell in CELLS]


def fault_tests(module):
    """Patterns of the rows of a module's tests, in their order; a parametrised test has several rows."""
    tree = ast.parse((ROOT / f"tests/faults/{module}.py").read_text(encoding="utf-8"))
    constants = assigned(ast.Module([node for node in tree.body if isinstance(node, ast.Assign)], []), {})
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    functions = [node for node in functions if "fault" in {argument.arg for argument in node.args.args}]
    return {function.name: expected(function, constants) for function in functions}


def rows_of(title):
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]


def test_the_head_and_the_sections_of_the_page_are_those_of_the_table():
    count = sum(len(rows_of(title)) for title in table.SECTIONS.values())
    assert PAGE.startswith(table.HEAD.format(count=count))
    assert re.findall(r"^## (.*)$", PAGE, re.M) == list(table.SECTIONS.values())


@pytest.mark.parametrize(("module", "title"), table.SECTIONS.items(), ids=table.SECTIONS)
def test_every_row_of_the_page_is_that_of_a_test_and_every_test_has_one(module, title):
    tests, found = fault_tests(module), []
    for row in rows_of(title):
        matching = [name for name, patterns in tests.items() if all(map(re.fullmatch, patterns, row))]
        assert len(matching) == 1, f"{row}: {matching or 'no test'} can have written it"
        found += matching
    assert [name for name, _ in groupby(found)] == list(tests)
