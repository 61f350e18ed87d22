"""`fnmap.share`: one copy of a large object for all processes."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from gates import wait_at

import fnmap
from fnmap import shared


@pytest.fixture
def session():
    with fnmap.Session(workers=2) as session:
        yield session


def file_of(array: np.ndarray) -> Path:
    return Path(shared._lying[array.__array_interface__["data"][0], array.nbytes])


def test_a_shared_object_is_equal_and_read_only():
    book = {"losses": np.arange(200_000.0), "names": ["a"], "table": pa.table({"x": np.arange(200_000)})}
    again = fnmap.share(book)
    assert np.array_equal(again["losses"], book["losses"])
    assert again["table"].equals(book["table"])
    assert again["names"] == ["a"]
    with pytest.raises(ValueError, match="read-only"):
        again["losses"][0] = 1.0


def test_a_run_takes_the_very_file_rather_than_a_copy(session):
    array = fnmap.share(np.arange(200_000.0))
    run = session.map(lambda i: float(array[i]) + array.sum(), range(5))
    assert list(run) == [i + array.sum() for i in range(5)]
    assert file_of(array).stat().st_nlink == 2
    del run
    gc.collect()
    assert file_of(array).stat().st_nlink == 1


def test_items_and_keywords_may_share_it_too(session):
    array = fnmap.share(np.arange(200_000.0))
    items, kwargs = [(array, 1), (array, 2)], {"more": array}
    run = session.map(lambda item, more: float(item[0][item[1]] + more[1]), items, kwargs=kwargs)
    assert list(run) == [2.0, 3.0]
    assert file_of(array).stat().st_nlink == 2


def test_a_part_of_it_is_sent_as_what_it_is(session):
    array = fnmap.share(np.arange(400_000.0))
    part = array[100_000:]
    assert list(session.map(lambda i: float(part[i]), [0, 1])) == [100_000.0, 100_001.0]


def test_the_file_goes_with_the_last_object_that_lies_in_it():
    array = fnmap.share(np.arange(200_000.0))
    view, path = array[:5], file_of(array)
    del array
    gc.collect()
    assert path.exists()
    del view
    gc.collect()
    assert not path.exists()


def test_a_run_goes_on_when_the_caller_has_dropped_it(session, gate):
    array, pipe = fnmap.share(np.arange(200_000.0)), gate.path
    run = session.map(lambda i, array=array: (wait_at(pipe), float(array[i]))[1], [3])
    del array
    gc.collect()
    gate.open()
    assert list(run) == [3.0]


def test_nothing_is_left_behind_by_a_process_that_ends():
    code = (
        "import fnmap, numpy as np\nfrom fnmap import shared\nif __name__ == '__main__':\n"
        "    a = fnmap.share(np.arange(200_000.0)); print(next(iter(shared._lying.values())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).parent.exists()


def test_what_cannot_be_pickled_is_said():
    with pytest.raises(TypeError, match="lock"):
        fnmap.share(__import__("threading").Lock())
