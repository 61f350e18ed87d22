"""Kill a writer at any instant: every object is whole or not there, and what it left can be swept."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fnmap.errors import MissingKey
from fnmap.storage.files import FileStore

sys.path.insert(0, str(Path(__file__).parent))
from victim import BODIES, sealed_by

VICTIM = Path(__file__).with_name("victim.py")


def leftovers(store):
    return [path.name for path in Path(store.root, ".tmp").glob("*")]


def run(*args):
    command = [sys.executable, VICTIM, *map(str, args)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


@pytest.mark.parametrize("verb", ["create", "create_parts", "put"])
@pytest.mark.parametrize("sync", [True, False])
def test_killed_at_each_system_call(tmp_path, verb, sync):
    """Each of these stores held an older object, or none, when its writer was killed one call further."""
    for number in range(1, 40):
        if verb == "put" and number % 2:
            FileStore(tmp_path / str(number)).put("a/b", BODIES["before"])
    steps = int(run("step", tmp_path, verb, sync))
    assert 7 <= steps < 40
    seen = [what_became_of(FileStore(tmp_path / str(number))) for number in range(1, steps + 1)]
    assert seen[-1] == "after"
    assert seen == sorted(seen, key="after".__eq__) or verb == "put", "once whole, always whole"
    if sync or verb != "put":  # the rename is the last that such a put does
        assert Counter(seen)["after"] >= 2, "one was killed between its commit and its return"
    assert set(seen) == {"nothing", "after"} | ({"before"} if verb == "put" else set())


def what_became_of(store):
    assert list(store.list("")) in ([], ["a/b"])
    try:
        body = store.get("a/b")
    except MissingKey:
        body = None
    assert store.sweep() in (0, 1)
    assert leftovers(store) == []
    assert store.create("a/b", BODIES["after"]) is (body is None), "what is there stands; what is not can be made"
    return "nothing" if body is None else next(name for name, whole in BODIES.items() if whole == body)


def test_killed_at_random_instants(tmp_path):
    """Two writers race for the same keys and are killed, 30 times over in one store."""
    store = FileStore(tmp_path)
    said = [line.split() for line in run("race", store.root, 20261122).splitlines()]
    orphans = [int(count) for who, count in said if who == "swept"]
    wins = [(key, name) for name, key in said if name != "swept"]
    assert len(orphans) == 30
    assert sum(orphans) > 0, "none was killed while it wrote"
    assert leftovers(store) == []
    assert len(dict(wins)) == len(wins) > 30, "a key has two winners"
    assert {key: sealed_by(store.get(key)) for key, _ in wins} == dict(wins)
    assert all(sealed_by(store.get(key)) for key in store.list("")), "an object is not whole"
