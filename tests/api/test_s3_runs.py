"""Named runs in a bucket of a real S3 server: map, attach, dataset, resume, gc."""

from __future__ import annotations

import contextlib
import pickle
import threading
from pathlib import Path

import pytest

import fnmap
from fnmap.errors import NotAuthentic
from fnmap.format import keys, parts
from fnmap.format.parts import encode_part
from fnmap.format.table import to_parquet
from fnmap.storage.open import open_store
from fnmap.testing.stores import CountingStore

PATIENCE_S = 60


def cube(x):
    return x**3


@pytest.fixture
def s3(s3_url, local):
    with fnmap.Session(workers=2, store=s3_url) as session:
        yield session


def test_a_run_is_kept_in_s3_and_attached_to(s3, s3_url):
    assert list(s3.map(cube, range(20), name="cubes", chunksize=5)) == [x**3 for x in range(20)]
    with fnmap.Session(on="inline", store=s3_url) as other:
        run = other.attach("cubes")
        assert (run.status.state, list(run)) == ("done", [x**3 for x in range(20)])
        assert [(info.name, info.state) for info in other.runs()] == [("cubes", "done")]


def test_a_run_that_is_spread_over_256_prefixes_of_s3_is_attached_to_and_deleted(local, s3_url):
    with fnmap.Session(workers=2, store=s3_url, spread=2) as wide:
        assert list(wide.map(cube, range(40), name="cubes", chunksize=1)) == [x**3 for x in range(40)]
    with fnmap.Session(on="inline", store=s3_url) as other:
        run = other.attach("cubes")
        assert (run.status.state, list(run)) == ("done", [x**3 for x in range(40)])
        folders = {key.split("/")[1] for key in other.store.list("part/")}
        assert len(folders) > 16
        assert {len(folder) for folder in folders} == {2}
        assert other.gc(0).parts == 40
        assert list(other.store.list("part/")) == []


def test_a_dataset_is_read_straight_from_s3(s3):
    run = s3.map(lambda x: {"x": x, "cube": x**3}, range(40), name="rows", chunksize=4)
    run.wait()
    dataset = run.dataset()
    assert len(dataset.files) == 10
    assert sorted(dataset.to_table(columns=["cube"]).column("cube").to_pylist()) == [x**3 for x in range(40)]
    assert dataset.to_table().sort_by("task").equals(run.table().select(dataset.schema.names).sort_by("task"))


def test_a_dataset_travels_without_secrets(s3, s3_server):
    run = s3.map(cube, range(4), name="cubes")
    run.wait()
    sent = pickle.dumps(run.dataset())
    assert s3_server.env["AWS_SECRET_ACCESS_KEY"].encode() not in sent
    assert pickle.loads(sent).count_rows() == 4


def test_what_is_committed_is_not_done_again(s3, s3_url, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()

    def fragile(x):
        if x >= 5 and broken.exists():
            raise OSError("not yet")
        (tmp_path / f"{x}.{len(list(tmp_path.glob(f'{x}.*')))}").touch()
        return x

    with pytest.raises(OSError, match="not yet"):
        list(s3.map(fragile, range(10), name="fragile", chunksize=1))
    broken.unlink()
    with fnmap.Session(workers=2, store=s3_url) as other:
        run = other.attach("fragile")
        run.retry()
        assert list(run) == list(range(10))
    assert all(len(list(tmp_path.glob(f"{x}.*"))) == 1 for x in range(10))


def test_collected_runs_leave_no_parts(s3, s3_url):
    s3.map(cube, range(8), name="old", chunksize=2).wait()
    assert s3.gc(older_than=0).parts == 4
    assert [key for prefix in keys.all_part_prefixes("old") for key in open_store(s3_url).list(prefix)] == []


def test_many_parts_are_read_with_one_request_each(s3, s3_url):
    store = Waiting(open_store(s3_url))
    s3.map(cube, range(50), name="many", chunksize=1).wait()
    with fnmap.Session(on="inline", store=store) as other:
        run = other.attach("many")
        before, store.most, store.wanted = store.calls["get"], 0, 9
        assert run.table().num_rows == 50
    assert store.calls["get"] - before == 50
    assert store.most >= 9


def test_results_in_order_are_read_ahead_with_one_request_each(s3, s3_url):
    store = Waiting(open_store(s3_url))
    s3.map(cube, range(24), name="ahead", chunksize=1).wait()
    with fnmap.Session(on="inline", store=store) as other:
        run = other.attach("ahead")
        parts._recent.clear()  # attach has read them all, and the last few are kept
        before, store.most, store.wanted = store.calls["get"], 0, 2
        assert list(run) == [x**3 for x in range(24)]
    assert store.calls["get"] - before == 24
    assert store.most >= 2


class Evil:
    """Leaves a mark wherever it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def overwrite(store, name, mark):
    part = next(key for prefix in keys.all_part_prefixes(name) for key in store.list(prefix))
    store.put(part, to_parquet(encode_part([0, 1], [Evil(mark), Evil(mark)], {})))


def test_who_writes_to_the_bucket_does_not_run_code_of_his(s3_url, local, monkeypatch, tmp_path):
    secret, mark = bytes(32), tmp_path / "mark"
    monkeypatch.setenv("FNMAP_SECRET", secret.hex())
    plain = open_store(s3_url)
    sealed = plain.sealed_with(secret)
    with fnmap.Session(workers=2, store=sealed) as session:
        assert list(session.map(cube, range(4), name="sealed", chunksize=2)) == [0, 1, 8, 27]
    overwrite(plain, "sealed", mark)
    with fnmap.Session(on="inline", store=sealed) as session:
        assert session.attach("sealed").status.state == "interrupted"
        plan = sealed.get(keys.plan("sealed"))
        plain.put(keys.plan("sealed"), plan)  # without its seal
        with pytest.raises(NotAuthentic, match="plan"):
            session.attach("sealed")
    assert not mark.exists()
    with fnmap.Session(on="inline", store=plain) as session, contextlib.suppress(Exception):
        session.map(cube, range(4), name="open", chunksize=2).wait()
        overwrite(plain, "open", mark)
        list(session.attach("open"))
    assert mark.exists()  # so it goes where no seal is asked for


def test_a_sealed_run_is_left_alone_by_who_has_no_secret(s3_url, caplog):
    plain = open_store(s3_url)
    sealed = plain.sealed_with(bytes(32))
    with fnmap.Session(on="inline", store=sealed) as session:
        session.map(cube, range(2), name="sealed").wait()
    with fnmap.Session(on="inline", store=plain) as session:
        session.map(cube, range(2), name="open").wait()
        with pytest.raises(NotAuthentic, match=r"is sealed, and this store has no secret.*--deployment"):
            session.attach("sealed")
        assert [info.name for info in session.runs()] == ["open"]
        assert session.gc(0, dry_run=True).runs == ("open",)
    with fnmap.Session(on="inline", store=sealed) as session:
        assert [info.name for info in session.runs()] == ["sealed"]
        assert session.gc(0).runs == ("sealed",)
    assert "the run open stays: 'run/open/plan'" in caplog.text


class Waiting(CountingStore):
    """Counts how many reads are under way at the same time; each waits until as many as `wanted` were, once."""

    at_once = 32
    under_way = most = wanted = 0

    def __init__(self, store):
        super().__init__(store)
        self._met = threading.Condition()

    def get(self, key):
        with self._met:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self._met.notify_all()
            if not self._met.wait_for(lambda: self.most >= self.wanted, PATIENCE_S / 4):
                self.wanted = 0  # it is not to be: the others need not wait for it
        try:
            return super().get(key)
        finally:
            with self._met:
                self.under_way -= 1
