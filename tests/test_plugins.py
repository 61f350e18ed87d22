"""docs/plugins.md: its example works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fnmap

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example, as an installer would put it on the path."""
    import tomllib

    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    info = tmp_path / "acme_fnmap-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-fnmap\nVersion: 1.0\n")
    groups = tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"]
    points = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(tmp_path)


def test_the_example_is_found_by_its_names_and_runs(installed, tmp_path):
    with fnmap.Session(on="fresh", store=f"sqlite://{tmp_path}/runs.db", workers=1) as session:
        run = session.map(lambda x: x * x, range(3), name="squares", chunksize=3)
        assert list(run) == [0, 1, 4]
        assert list(session.attach("squares")) == [0, 1, 4]


def test_every_variable_that_is_read_is_told_of():
    read = {
        name
        for path in Path(fnmap.__file__).parent.rglob("*.py")
        for name in re.findall(r"FNMAP_\w+", path.read_text())
    }
    assert read == set(re.findall(r"`(FNMAP_\w+)`", PAGE))
