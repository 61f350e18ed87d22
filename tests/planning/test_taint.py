"""What came of an error is told from what did not, however far it went."""

from __future__ import annotations

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fnmap.planning.graph import Edge, Graph
from fnmap.planning.schedule import State

WIDTH = 3


@st.composite
def settled_graphs(draw):
    """Stages of a few tasks each, some of which failed, each task with some of the stage before for inputs."""
    rules = draw(st.lists(st.sampled_from(["fail", "skip", "pass"]), min_size=1, max_size=5))
    inputs = [[draw(st.lists(st.integers(0, WIDTH - 1), unique=True)) for _ in range(WIDTH)] for _ in rules[1:]]
    edges = [
        Edge(at, at + 1, np.array([*chain.from_iterable(each)], np.int64), np.cumsum([len(one) for one in each]))
        for at, each in enumerate(inputs)
    ]
    states = draw(st.lists(st.sampled_from([State.DONE] * 3 + [State.FAILED]), min_size=3 * len(rules), max_size=15))
    states = states[: WIDTH * len(rules)]
    sound = draw(st.lists(st.booleans(), min_size=len(states), max_size=len(states)))
    return rules, inputs, edges, states, sound


@given(settled_graphs())
def test_a_result_is_tainted_if_an_input_has_none_or_is_tainted(given_graph):
    rules, inputs, edges, states, sound = given_graph
    graph = Graph([WIDTH] * len(rules), edges, rules)
    expected = [False] * WIDTH
    for stage in range(1, len(rules)):
        for task in range(WIDTH):
            of = [(stage - 1) * WIDTH + one for one in inputs[stage - 1][task]]
            lacks = rules[stage] != "fail" and any(states[one] != State.DONE for one in of)
            mine = stage * WIDTH + task
            bad = lacks or any(expected[one] for one in of)
            expected.append(bad and states[mine] == State.DONE and not sound[mine])
    assert graph.tainted(bytes(states), np.array(sound)).tolist() == expected


def test_a_result_that_took_an_error_taints_the_next_but_one():
    one = np.arange(2)
    graph = Graph([2, 2, 2], [Edge(0, 1, one), Edge(1, 2, one)], ["fail", "pass", "fail"])
    states = bytes([State.FAILED, *[State.DONE] * 5])
    assert graph.tainted(states).tolist() == [False, False, True, False, True, False]
