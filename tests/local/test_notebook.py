"""In a Jupyter kernel: its loop runs, its functions live in cells."""

from __future__ import annotations

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

CELLS = [
    "import fnmap\nfrom dataclasses import dataclass\n\n@dataclass\nclass Deal:\n    n: int\n\ndef double(d):\n"
    "    return Deal(2 * d.n)",
    "await fnmap.map(double, [Deal(1), Deal(2)])",
    "[d.n async for d in fnmap.map(double, [Deal(3)])]",
    "list(fnmap.map(double, [Deal(5)]))",
    "def double(d):\n    return Deal(20 * d.n)",
    "list(fnmap.map(double, [Deal(5)]))",
    "try:\n    await fnmap.map(lambda d: 1 / d.n, [Deal(0)])\nexcept ZeroDivisionError:\n    print('caught')",
    "run = fnmap.map(lambda x: print('said', x), [7])\nawait run\nrun",
]


@pytest.fixture(scope="module")
def outputs():
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute()
    return ["".join(o.get("text", "") or o["data"]["text/plain"] for o in cell.outputs) for cell in book.cells]


def test_a_run_is_awaited_in_the_running_loop(outputs):
    assert outputs[1] == "[Deal(n=2), Deal(n=4)]"


def test_async_for_works_in_a_cell(outputs):
    assert outputs[2] == "[6]"


def test_a_list_in_a_cell_works_as_well(outputs):
    assert outputs[3] == "[Deal(n=10)]"


def test_a_cell_run_again_runs_the_new_code(outputs):
    assert outputs[5] == "[Deal(n=100)]"


def test_errors_are_caught_in_a_cell(outputs):
    assert outputs[6] == "caught\n"


def test_prints_reach_the_notebook_and_a_run_shows_itself(outputs):
    assert "[task 0] said 7" in outputs[7]
    assert "<Run" in outputs[7]
