"""The number of cases of a fuzz test, strategies for values, and the row of such a test."""

from hypothesis import strategies as st

CASES = {"quick": 40, "full": 10_000}


def cases(request):
    return CASES["full" if request.config.getoption("--faults-json") else "quick"]


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["../../x", "/etc/passwd", "!!python/object/apply:os.system ['touch code-was-run']", "1e-5", "{a"]),
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def row(fault, request, what, seen):
    fault.done = f"{cases(request):,} cases drawn by Hypothesis: {what}"
    fault.happened = f"{seen}; no traceback, no code run, no file written outside the folder"
    fault.lost = "nothing"
