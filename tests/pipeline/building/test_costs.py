"""Costs add up, whatever the order."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.building.costs import Costs

counts = st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)).map(Counter)
costs = st.builds(
    Costs,
    reused=st.dictionaries(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), st.integers(1, 9)
    ).map(Counter),
    computed=counts,
    seconds=st.dictionaries(st.sampled_from(["decode", "flow"]), st.integers(0, 9)),
    warnings=st.frozensets(st.sampled_from("vw")),
)


@given(costs, costs, costs)
def test_costs_add_up(a: Costs, b: Costs, c: Costs):
    assert a + Costs() == a == Costs() + a
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert (a + b).computed.total() == a.computed.total() + b.computed.total()
