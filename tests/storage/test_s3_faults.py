"""What the S3 store promises, behind a proxy that fails: one winner for each create, and nothing wrong is ever read."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from fnmap.errors import MissingKey, StoreBusy, StoreError, StoreThrottled
from fnmap.storage.open import open_store
from fnmap.storage.pace import Pace
from fnmap.storage.retrying import Retrying
from fnmap.storage.s3 import S3Store
from fnmap.testing.proxy import FAULTS, FaultyProxy

WRITERS, KEYS = 3, 8
ALL = (*FAULTS, "409")


@pytest.fixture
def behind(s3_server, s3_url):
    """A proxy with a rate of faults, and stores that talk through it, without patience between tries."""
    proxies = []

    def behind(rate, faults=ALL, *, tries=60, seed=1, timeout_s=5.0):
        proxy = FaultyProxy(s3_server.endpoint, rate=rate, seed=seed, faults=faults).__enter__()
        proxies.append(proxy)
        bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
        store = S3Store(bucket, prefix, endpoint=proxy.endpoint, timeout_s=timeout_s, tries=tries)
        store._again = Retrying(store, tries=tries, sleep=lambda _: None)
        return proxy, store

    yield behind
    for proxy in proxies:
        proxy.__exit__()


def raced(store):
    """For each key, how each of its writers fared: True, False or the error."""

    def create(at):
        writer, key = divmod(at, KEYS)  # those of one key not all at once, which takes the server seconds
        try:
            return key, writer, store.create(f"k{key}", b"%d" % writer * 500)
        except StoreError as error:
            return key, writer, error

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(create, range(KEYS * WRITERS)))


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.9])
def test_each_create_has_one_winner(behind, s3_url, rate):
    proxy, store = behind(rate)
    fared = raced(store)
    truth = open_store(s3_url)  # past the proxy
    won = {key: writer for key, writer, outcome in fared if outcome is True}
    assert Counter(key for key, _, outcome in fared if outcome is True).most_common(1)[0][1] == 1
    assert {key: truth.get(f"k{key}")[:1] for key in won} == {key: b"%d" % writer for key, writer in won.items()}
    assert not [error for _, _, error in fared if isinstance(error, Exception)]  # 60 tries are enough even so
    assert len(won) == KEYS
    if rate > 0.5:
        assert {"503", "500", "reset", "409"} <= proxy.failures.keys()


@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_what_is_given_up_was_at_most_not_heard_of(behind, s3_url, rate):
    _, store = behind(rate, tries=2, seed=3)
    fared = raced(store)
    truth = open_store(s3_url)
    for key in range(KEYS):
        outcomes = {writer: outcome for at, writer, outcome in fared if at == key}
        assert list(outcomes.values()).count(True) <= 1
        assert all(isinstance(o, StoreBusy) for o in outcomes.values() if not isinstance(o, bool))
        with suppress(MissingKey):
            there = int(truth.get(f"k{key}")[:1])
            assert outcomes[there] is not False


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.9])
def test_nothing_wrong_is_ever_read(behind, s3_url, rate):
    bodies = {f"r{n}": bytes([n]) * 3000 for n in range(20)}
    truth = open_store(s3_url)
    for key, body in bodies.items():
        truth.put(key, body)
    proxy, store = behind(rate, seed=5)
    with ThreadPoolExecutor(4) as pool:
        assert dict(zip(bodies, pool.map(store.get, bodies), strict=True)) == bodies
        assert list(pool.map(sorted, pool.map(store.list, ["r"] * 4))) == [sorted(bodies)] * 4
    with pytest.raises(MissingKey):
        store.get("nothing")
    if rate > 0.5:
        assert {"flip", "truncate", "drip"} <= proxy.failures.keys()


@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_what_is_put_arrives_whole_and_what_is_deleted_goes(behind, s3_url, rate):
    _, store = behind(rate, seed=9)
    truth = open_store(s3_url)
    for n in range(10):
        store.put(f"p{n}", bytes([n]) * 2000)
    assert [truth.get(f"p{n}") for n in range(10)] == [bytes([n]) * 2000 for n in range(10)]
    store.delete([f"p{n}" for n in range(10)])
    assert list(truth.list("")) == []


@pytest.mark.parametrize("size", [900_000, 3_000_000])  # in one piece, and in several
def test_what_comes_in_pieces_is_whole_or_asked_for_again(behind, s3_url, size):
    body = bytes(range(251)) * (size // 251)
    open_store(s3_url).put("a", body)
    proxy, store = behind(0.5, ("reset", "flip", "truncate"), seed=4)
    assert [store.get("a") == body for _ in range(8)] == [True] * 8
    assert {"flip", "truncate"} <= proxy.failures.keys()
    _, never = behind(1.0, ("flip",), tries=2)
    with pytest.raises(StoreBusy, match=r"'a' .* does not fit its checksum"):
        never.get("a")


def test_a_large_object_is_whole_though_requests_for_its_parts_fail(behind, s3_url):
    _, store = behind(0.1, ("503", "reset", "flip", "truncate"))
    body = bytes(range(251)) * 90_000  # 22 MB, three parts
    store.put("large", body)
    assert store.get("large") == body
    assert open_store(s3_url).get("large") == body


def test_a_server_that_says_nothing_is_asked_again(behind):
    proxy, store = behind(0.5, ("stall",), timeout_s=0.15, seed=2)
    assert [store.create(f"k{n}", b"x") for n in range(6)] == [True] * 6
    assert proxy.failures["stall"] > 0


def test_a_body_that_stays_damaged_is_never_returned(behind, s3_url):
    open_store(s3_url).put("a", b"x" * 1000)
    _, store = behind(1.0, ("flip",), tries=3)
    with pytest.raises(StoreBusy, match=r"'a' .* does not fit its checksum"):
        store.get("a")


def test_a_conflict_is_asked_again_and_is_no_loss(behind):
    proxy, store = behind(0.0)
    proxy.answers += [(409, b"")] * 3
    assert store.create("a", b"mine") is True
    proxy.answers += [(409, b"")] * 3
    assert store.create("a", b"mine") is False
    assert proxy.requests["PUT"] == 8


def test_requests_slow_down_when_the_store_says_so(behind):
    proxy, store = behind(0.0)
    pace, slept = Pace(), []
    now = iter(range(10**6))
    store._again = Retrying(store, tries=10, sleep=slept.append, pace=pace, now=lambda: next(now) / 10)
    proxy.answers += [(503, b"")] * 2
    store.put("a", b"")
    assert pace.rate(1.0) is not None
    proxy.answers += [(503, b"")] * 20
    with pytest.raises(StoreThrottled, match=r"cannot write .*/a' in s3://"):
        store.put("a", b"")
