"""list(run) is [fn(x) for x in items], in value and in type."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fnmap

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=1)
    ),
    max_leaves=8,
)


def wrap(x):
    return {"x": x, "pair": (x, [x])}


few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(st.lists(values, max_size=12), st.sampled_from(["auto", 1, 3]))
def test_a_run_equals_the_list_comprehension(session, items, chunksize):
    assert repr(list(session.map(wrap, items, chunksize=chunksize))) == repr([wrap(x) for x in items])


@few
@given(st.lists(values, max_size=12), st.integers(1, 5))
def test_so_does_a_run_over_an_iterator(session, items, buffersize):
    assert repr(list(session.map(wrap, iter(items), buffersize=buffersize))) == repr([wrap(x) for x in items])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(values, min_size=1, max_size=6))
def test_and_a_run_that_is_attached_to_later(tmp_path_factory, items):
    store = tmp_path_factory.mktemp("store")
    with fnmap.Session(on="inline", store=store) as session:
        session.map(wrap, items, name="kept", chunksize=2).wait()
    with fnmap.Session(on="inline", store=store) as session:
        assert repr(list(session.attach("kept"))) == repr([wrap(x) for x in items])
