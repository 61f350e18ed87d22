"""Old runs are deleted, whatever happens at the same time."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from gates import wait_at

import fnmap
from fnmap.cache import write_manifest
from fnmap.collect import age_s, collect
from fnmap.errors import RunBusy, RunNotFound, RunTakenOver, StoreError, UsageError
from fnmap.format import keys
from fnmap.format.payload import pack, unpack
from fnmap.lease import begin_again, claim, claim_to_delete, committed, last_driver, read_plan, say_alive
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore
from fnmap.storage.owner import me

DAY_S = 86400.0
DEAD = "elsewhere.1.1"


class Interleaved(MemoryStore):
    """Does something before a certain call for the first time."""

    def before(self, verb, part, do):
        self._plan = (verb, part, do)

    def _meet(self, verb, key):
        plan = getattr(self, "_plan", None)
        if plan is not None and plan[0] == verb and plan[1] in key:
            self._plan = None
            plan[2]()

    def create(self, key, body):
        self._meet("create", key)
        return super().create(key, body)

    def put(self, key, body):
        self._meet("put", key)
        super().put(key, body)

    def delete(self, keys):
        keys = list(keys)
        for key in keys:
            self._meet("delete", key)
        super().delete(keys)


@pytest.fixture
def store():
    return Interleaved()


def make(store, name="n", items=range(3), **options):
    with fnmap.Session(on="inline", store=store) as session:
        return session.map(abs, items, name=name, **options).result()


def age(store, name="n", days=30.0, owner=DEAD, end=True):
    """Make a run old, and its driver one of another host; of one that has not ended, with `end` False."""
    body = store.get(keys.plan(name))
    head = read_plan(store, name)
    old = json.dumps(head).encode()
    head |= {"started": head["started"] - days * DAY_S, "owner": owner}
    new = json.dumps(head).encode()
    frames = [bytes(frame) for frame in unpack(body)]
    assert frames[0] == old
    store.put(keys.plan(name), b"".join(pack([new, *frames[1:]])))
    for key in list(store.list(f"run/{name}/beat.")):
        store.put(key, f"1 {head['started']}".encode())
    for key in list(store.list(f"run/{name}/end.")):
        if end:
            told = json.loads(store.get(key))
            store.put(key, json.dumps(told | {"at": told["at"] - days * DAY_S}).encode())
        else:
            store.delete([key])


def left(store, name="n"):
    return sorted(key for key in store.list("") if f"/{name}/" in key)


def names(store):
    with fnmap.Session(on="inline", store=store) as session:
        return [info.name for info in session.runs()]


def test_runs_that_ended_long_ago_go_and_others_stay(store):
    for name in ("old", "new"):
        make(store, name)
    age(store, "old")
    assert collect(store, "7d").runs == ("old",)
    assert names(store) == ["new"]
    assert left(store, "old") == ["run/old/driver.000001", "run/old/plan"]
    with fnmap.Session(on="inline", store=store) as session:
        with pytest.raises(RunNotFound, match=r"'old'.*there: new"):
            session.attach("old")
        assert session.attach("new").result() == [0, 1, 2]


def test_a_dry_run_tells_and_deletes_nothing(store):
    make(store)
    age(store)
    before = left(store)
    report = collect(store, "7d", dry_run=True)
    assert left(store) == before
    assert report == collect(store, "7d")
    assert (report.runs, report.parts > 0, report.kept_parts) == (("n",), True, 0)


def test_it_is_a_verb_and_takes_a_store(tmp_path):
    with fnmap.use(on="inline", store=tmp_path):
        list(fnmap.map(abs, [1], name="n"))
        assert fnmap.gc("1h").runs == ()
        assert fnmap.gc(0).runs == ("n",)
    assert fnmap.gc(0, store=tmp_path).runs == ()


def test_what_died_in_the_middle_goes_by_its_last_sign_of_life(store):
    make(store)
    age(store, days=3, end=False)
    assert collect(store, "7d").runs == ()
    say_alive(store, "n", 0, 1)
    assert collect(store, "1d").runs == ()
    age(store, days=0, end=False)
    assert collect(store, "1d").runs == ("n",)


def test_a_run_of_a_live_process_stays_however_old_it_is(store):
    make(store)
    age(store, owner=me(), end=False)
    assert collect(store, 0).runs == ()


def test_a_live_run_of_this_process_stays(tmp_path, gate):
    with fnmap.Session(workers=1, store=tmp_path) as session:
        run = session.map(lambda x, path=str(gate.path): wait_at(path) or x, [1], name="n")
        assert session.gc(0).runs == ()
        gate.open()
        assert run.result() == [1]


def test_a_driver_elsewhere_that_was_heard_of_lately_stays_whatever_is_asked_for(store):
    make(store)
    age(store, days=0.0001, end=False)
    assert collect(store, 0).runs == ()


def test_a_run_that_is_taken_up_before_it_is_claimed_stays(store):
    make(store)
    age(store, end=False)
    took = []
    plan = read_plan(store, "n")
    silent = last_driver(store, "n", plan)
    store.before("create", "driver.000001", lambda: took.append(claim(store, "n", plan, silent=silent)))
    before = committed(store, "n")
    assert collect(store, "7d").runs == ()
    assert took == [1]
    assert committed(store, "n") == before
    assert make(store) == [0, 1, 2]


def test_a_run_that_was_claimed_cannot_be_taken_up_until_it_is_gone(store):
    make(store)
    age(store)

    def take_up():
        with pytest.raises(RunBusy, match="just deleting that run"):
            make(store)

    store.before("delete", "part/", take_up)
    assert collect(store, "7d").runs == ("n",)
    assert make(store, items=[-4]) == [4]


def test_a_run_that_is_tried_again_by_its_old_process_stays_or_is_told(store):
    with fnmap.Session(on="inline", store=store) as session:
        run = session.map(lambda x: 1 / x, [1, 0], name="n", errors="return")
        run.wait()
        age(store)
        store.before("create", "driver.000001", lambda: run.ledger.durable.reopen(run, session))
        assert collect(store, "7d").runs == ()
        assert run.retry().result()[0] == 1
        age(store)
        assert collect(store, "7d").runs == ("n",)
        with pytest.raises(RunTakenOver):
            run.retry()


@pytest.mark.parametrize("part", ["run/n/end", "part/", "run/n/beat", "put"])
def test_a_collector_that_dies_in_the_middle_leaves_a_run_that_can_be_finished(store, part):
    make(store)
    age(store)

    def die():
        raise SystemExit

    store.before(*(("put", "run/n/plan") if part == "put" else ("delete", part)), die)
    with pytest.raises(SystemExit):
        collect(store, "7d")
    host, _, birth = me().split(".")
    store.put(keys.driver("n", 1), f"collects {host}.{2**22 + 1}.{birth}".encode())  # a process that is gone
    assert names(store) == ["n"]
    with fnmap.Session(on="inline", store=store) as session:
        assert session.attach("n").retry().result() == [0, 1, 2]
        assert session.attach("n").status.state == "done"


def test_an_error_of_the_store_gives_the_claim_back(store):
    make(store)
    age(store)

    def fail():
        raise StoreError("ill")

    store.before("delete", "part/", fail)
    with pytest.raises(StoreError):
        collect(store, "7d")
    assert not list(store.list("run/n/driver."))
    assert collect(store, "7d").runs == ("n",)


def test_what_a_zombie_commits_to_a_deleted_run_does_not_count_in_the_next_of_its_name(store):
    make(store)
    age(store)
    body = store.get(committed(store, "n")[0])
    assert collect(store, "7d").runs == ("n",)
    zombie = keys.part("n", 0, 7)
    store.create(zombie, body)
    for _ in range(2):  # by its first driver, and by one that takes over
        assert make(store, items=[-5, -6, -7]) == [5, 6, 7]
        assert zombie not in committed(store, "n")
    with fnmap.Session(on="inline", store=store) as session:
        assert session.attach("n").result() == [5, 6, 7]


def test_a_name_of_a_deleted_run_is_taken_by_one_only(store):
    make(store)
    age(store)
    collect(store, "7d")
    store.before("create", "driver.000002", lambda: begin_again(store, "n"))
    with pytest.raises(RunBusy, match="just taken up"):
        make(store, items=[-2])
    assert make(store, items=[-1]) == [1]


def test_a_new_run_of_the_name_is_not_deleted_with_the_old_one(store):
    make(store)
    age(store)
    collect(store, "7d")
    store.create(keys.part("n", 0, 7), b"late")
    store.before("delete", "part/", lambda: make(store, items=[-1]))
    assert collect(store, "7d").runs == ()
    assert make(store, items=[-1]) == [1]
    assert keys.part("n", 0, 7) not in left(store)


def test_plans_are_deleted_and_their_names_used_again(tmp_path):
    def run(n):
        with fnmap.plan("p") as p:
            p.gather(sum, p.map(abs, range(n)))
        return session.run_plan(p, name="n").result()

    with fnmap.Session(on="inline", store=tmp_path) as session:
        assert run(4) == 6
        assert session.gc(0).runs == ("n",)
        assert run(5) == 10
        assert session.attach("n").result() == 10


def test_parts_with_cached_results_stay_until_the_cache_lets_go_of_them(store):
    make(store, items=range(3), chunksize=1)
    age(store)
    first, *others = committed(store, "n")
    write_manifest(store, "identity", "n", np.zeros((1, 2), np.uint64), [first], [0], [0])
    report = collect(store, "7d")
    assert (report.parts, report.kept_parts) == (len(others), 1)
    assert [key for key in left(store) if key.startswith("part/")] == [first]
    store.delete(list(store.list("cache/")))
    assert collect(store, "7d").parts == 1
    assert left(store) == ["run/n/driver.000001", "run/n/plan"]


def test_nothing_stays_of_names_that_are_never_used_again(store):
    make(store, name="cached-1a-2b-3c")
    age(store, name="cached-1a-2b-3c")
    collect(store, "7d")
    assert not left(store, "cached-1a-2b-3c")


def test_two_collections_at_a_time_delete_a_run_once(tmp_path):
    store = FileStore(tmp_path)
    make(store)
    age(store)
    seen = last_driver(store, "n", read_plan(store, "n"))
    assert claim_to_delete(store, "n", seen) == 1
    with pytest.raises(RunBusy):
        claim_to_delete(store, "n", seen)
    assert collect(store, "7d").runs == ()


def test_an_age_is_seconds_a_time_or_a_text():
    said = [90, 1.5, "2w", " 1.5 h", "30m", timedelta(days=1), np.float64(3)]
    assert [age_s(one) for one in said] == [90, 1.5, 14 * DAY_S, 5400, 1800, DAY_S, 3]
    for wrong in ("7", "7 years", -1, None, True, float("nan"), timedelta(-1)):
        with pytest.raises(UsageError, match="older_than must be"):
            age_s(wrong)
