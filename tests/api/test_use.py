"""fnmap.use and the default session: verbs need no backend named."""

from __future__ import annotations

import threading

import pytest

import fnmap


def library_function(items):
    """As of a library that maps and names no backend."""
    return list(fnmap.map(lambda _: threading.get_ident(), items))


def test_the_verbs_of_a_block_use_its_session():
    with fnmap.use(on="inline") as session:
        assert library_function([1]) == [threading.get_ident()]
        assert list(fnmap.starmap(pow, [(2, 3)])) == [8]
        assert fnmap.submit(abs, -1).result() == 1
        assert fnmap.map_reduce(abs, [-1, -2], sum).result() == 3
        assert isinstance(session, fnmap.Session)


def test_a_block_ends_with_its_session():
    with fnmap.use(on="inline") as session:
        pass
    with pytest.raises(fnmap.errors.RunError, match="closed"):
        session.map(abs, [1])


def test_blocks_nest(tmp_path):
    with fnmap.use(on="inline", store=tmp_path / "a") as outer:
        with fnmap.use(on="inline", store=tmp_path / "b") as inner:
            fnmap.map(abs, [1], name="inner").wait()
        fnmap.map(abs, [1], name="outer").wait()
        assert [r.name for r in outer.runs()] == ["outer"]
    assert inner.closed


def test_an_option_of_the_verb_overrules_the_block(tmp_path):
    with fnmap.use(on="inline", store=tmp_path / "a"):
        fnmap.map(abs, [1], name="there", store=tmp_path / "b").wait()
        assert fnmap.runs() == []
        assert [r.name for r in fnmap.runs(store=tmp_path / "b")] == ["there"]


def test_runs_of_a_block_end_before_it_does(tmp_path):
    with fnmap.use(on="local", workers=1):
        run = fnmap.map(abs, range(100))
    assert run.status.state == "done"


def test_after_close_the_verbs_start_anew():
    assert list(fnmap.map(abs, [-1], on="inline")) == [1]
    fnmap.close()
    assert list(fnmap.map(abs, [-1], on="inline")) == [1]
    fnmap.close()


def test_an_unknown_backend_is_refused_by_use():
    with pytest.raises(fnmap.errors.UsageError, match="inline, lambda, lithops, local"), fnmap.use(on="lokal"):
        pass
