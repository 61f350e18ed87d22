"""Maps and runs on AWS Lambda, both ways: the local service, with a process for each environment."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from gates import say_at, wait_at

import fnmap
from fnmap.aws.deployment import TAG
from fnmap.aws.requests import Service
from fnmap.cli import main
from fnmap.compute import aws_queues
from fnmap.compute.aws_lambda import LambdaCompute
from fnmap.compute.aws_queues import HEARD
from fnmap.errors import TaskError, UsageError
from fnmap.storage.open import open_store
from fnmap.testing.local_aws import boto3_client, local_aws
from fnmap.testing.proxy import FaultyProxy

PATIENCE_S = 30


@pytest.fixture
def direct(aws_here):
    with fnmap.Session(on=LambdaCompute(workers=2)) as session:
        yield session


@pytest.fixture
def detached(aws_here):
    with fnmap.Session(on=LambdaCompute(workers=2, mode="detached")) as session:
        yield session


@pytest.fixture(params=["direct", "detached"])
def named(request):
    return request.getfixturevalue(request.param)


def objects(aws, prefix=""):
    return sorted(open_store(f"s3://{aws.bucket}").list(prefix))


def double(x):
    return 2 * x


@dataclass
class Deal:
    """A class of the caller's own."""

    number: int


class Refused(Exception):
    """An exception of the caller's own."""


def refuse(x):
    if x == 2:
        raise Refused(x)
    return Deal(x)


def test_the_function_is_found_by_its_name_alone(aws_here):
    with fnmap.use(on="lambda", workers=2):
        assert list(fnmap.map(double, range(5))) == [0, 2, 4, 6, 8]


def test_a_map_gives_results_of_the_callers_own_types_in_order(direct):
    assert list(direct.map(Deal, range(100))) == [Deal(n) for n in range(100)]


def test_a_call_of_a_warm_environment_asks_the_store_for_nothing(direct, aws_here):
    direct.submit(double, 1).result()
    before = objects(aws_here)
    assert direct.submit(double, 4).result() == 8
    assert objects(aws_here) == before


def test_an_exception_comes_back_as_itself_with_the_item_and_the_traceback(direct):
    with pytest.raises(Refused) as caught:
        direct.map(refuse, [1, 2, 3]).result()
    assert "with the item 2" in caught.value.__notes__[0]
    assert "in refuse" in caught.value.__notes__[0]
    given = list(direct.map(refuse, [1, 2, 3], errors="return"))
    assert [type(g) for g in given] == [Deal, TaskError, Deal]


def test_what_tasks_print_reaches_the_caller_and_what_they_log_its_loggers(named, capfd, caplog, request):
    def talk(x):
        print(f"says {x}")
        logging.getLogger("deals").warning("warns of %d", x)
        return x

    run = named.map(talk, [7], name=request.node.name.replace("[", "-").strip("]"))
    assert list(run) == [7]
    assert "[task 0] says 7\n" in capfd.readouterr().out
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name == "deals"] == [
        ("deals", "WARNING", "[task 0] warns of 7")
    ]


def test_what_a_task_said_before_it_died_is_in_its_error(direct):
    def die(_):
        print("my last words")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(fnmap.errors.TaskPoisoned, match="my last words") as caught:
        direct.map(die, [1]).result()
    assert caught.value.attempts == 4


@pytest.fixture
def watched(s3_server, monkeypatch):
    """Lambda and S3 of the test's own, and a proxy that counts what both ends ask of S3."""
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        s3 = replace(s3_server, endpoint=proxy.endpoint, env={**s3_server.env, "AWS_ENDPOINT_URL_S3": proxy.endpoint})
        with local_aws(s3=s3) as aws:
            for name, value in aws.env.items():
                monkeypatch.setenv(name, value)
            yield aws, proxy


def test_a_large_closure_travels_once_and_is_fetched_once_by_each_environment(watched, begun, gate):
    aws, proxy = watched
    table = np.arange(1 << 19, dtype=float)  # 4 MB

    def look(at):
        if at < 2:  # two environments at a time
            say_at(begun.path)
            wait_at(gate.path)
        return table[at], os.getpid()

    with fnmap.Session(on=LambdaCompute(workers=2)) as session:
        run = session.map(look, range(20), chunksize=1, idempotent=False)
        begun.heard(2)
        gate.open(2)
        found = list(run)
        assert [value for value, _ in found] == list(range(20))
        assert len({pid for _, pid in found}) == aws.service.counts["cold_starts"] == 2
        (blob,) = [key for key in objects(aws, "tmp/") if "/shared." in key]
    made = {what.partition("?")[0]: n for what, n in proxy.asked.items() if blob in what}
    assert made == {f"PUT /{aws.bucket}/{blob}": 1, f"GET /{aws.bucket}/{blob}": 2}


def test_what_an_environment_keeps_of_large_closures_has_a_bound(aws_here, deploy):
    def kept(table):
        def look(at):
            files = [path for path in Path(os.environ["FNMAP_KEEP"]).rglob("*") if path.is_file()]
            return table[at], sum(path.stat().st_size for path in files) / table.nbytes

        return look

    with fnmap.Session(on=LambdaCompute(deploy("frugal", FNMAP_KEEP_MB="9"), workers=1)) as session:
        found = [session.submit(kept(np.full(1 << 19, n, float)), 0).result() for n in range(5)]  # 4.2 MB each
    assert found == [(0, 1), (1, 2), (2, 2), (3, 2), (4, 2)]


def test_large_items_and_large_results_go_through_the_bucket(named, request):
    item = np.ones(1 << 19)
    (result,) = named.map(double, [item], name=request.node.name.replace("[", "-").strip("]"))
    assert result.sum() == 2 << 19


def test_long_reports_of_failures_come_whole(direct):
    def fail(x):
        raise ValueError("x" * 30_000 + str(x))

    errors = list(direct.map(fail, range(200), chunksize=200, errors="return"))
    assert [str(e.exception)[-3:] for e in errors[-2:]] == ["198", "199"]


def test_a_large_function_is_sent_once(direct, aws_here):
    text = os.urandom(60_000).hex()
    assert list(direct.map(lambda x: len(text) + x, range(3), chunksize=1)) == [120_000, 120_001, 120_002]
    assert len(objects(aws_here, "tmp/job/")) >= 1


def test_plans_run_and_their_results_stay_in_the_bucket(named, request):
    plan = fnmap.plan()
    squares = plan.map(double, range(6))
    plan.reduce(sum, squares, fan_in=3)
    assert named.run_plan(plan, name=request.node.name.replace("[", "-").strip("]")).result() == 30


def test_a_named_run_is_attached_to_by_another_process(named, request, start):
    name = request.node.name.replace("[", "-").strip("]")
    assert list(named.map(double, range(6), name=name)) == [0, 2, 4, 6, 8, 10]
    other = start(f"import fnmap\nprint(list(fnmap.attach({name!r}, on='lambda')))")
    out, err = other.communicate()
    assert (out, err) == ("[0, 2, 4, 6, 8, 10]\n", "")


def test_a_run_that_is_spread_over_256_prefixes_is_committed_attached_to_and_collected(aws_here):
    compute = LambdaCompute(workers=2, mode="detached")
    with fnmap.Session(on=compute, spread=2) as wide, fnmap.Session(on="lambda", workers=1) as other:
        assert list(wide.map(double, range(12), name="wide", chunksize=1)) == [2 * x for x in range(12)]
        parts = [key for key in objects(aws_here, "part/") if "/wide/" in key]
        assert {len(key.split("/")[1]) for key in parts} == {2}
        assert list(other.attach("wide")) == [2 * x for x in range(12)]
        other.gc(0)
        assert not [key for key in objects(aws_here, "part/") if "/wide/" in key]


def test_named_runs_are_listed_and_collected(direct, aws_here):
    direct.map(double, range(3), name="to-collect").result()
    assert "to-collect" in [info.name for info in direct.runs()]
    direct.gc(0)
    assert not [key for key in objects(aws_here, "part/") if "to-collect" in key]
    assert "to-collect" not in [info.name for info in direct.runs()]


def test_the_command_sees_to_the_runs_of_a_deployment(aws_here, capsys):
    with fnmap.Session(on="lambda", workers=2) as session:
        session.map(double, range(3), name="of-the-command").wait()
    fnmap.close()
    assert main(["attach", "of-the-command", "--deployment"]) == 0
    assert main(["runs", "--deployment", "fnmap"]) == 0
    assert main(["gc", "1d", "--deployment"]) == 0
    said = capsys.readouterr().out
    assert "of-the-command: done, 3 of 3 done" in said
    assert "0 runs of 0 parts deleted" in said
    assert "of-the-command" in [info.name for info in fnmap.runs(on="lambda")]
    assert "of-the-command" in fnmap.gc(0, on="lambda", dry_run=True).runs
    fnmap.close()


def test_the_command_lists_the_runs_of_a_stale_deployment(aws_here, deploy, capsys):
    with fnmap.Session(on="lambda", workers=2) as session:
        session.map(double, range(3), name="of-old-code").wait()
    stale = deploy("stale", FNMAP_CODE="0123")
    for named in ((), ("--store", f"s3://{aws_here.bucket}")):
        assert main(["runs", "--deployment", stale, *named]) == 0
        assert "of-old-code" in capsys.readouterr().out
    assert main(["runs", "--deployment", stale, "--store", "/nowhere"]) == 1
    assert main(["attach", "of-old-code", "--deployment", stale]) == 1
    assert "another version of fnmap" in capsys.readouterr().err
    fnmap.close()


def test_cached_results_are_not_computed_again(direct):
    assert list(direct.map(double, range(5), cache=True)) == [0, 2, 4, 6, 8]
    run = direct.map(double, range(7), cache=True)
    assert (list(run)[-1], run.report()["cached"]) == (12, 5)


def test_a_store_that_the_function_does_not_reach_is_named(aws_here, tmp_path):
    with pytest.raises(UsageError, match=f"s3://{aws_here.bucket}"):
        fnmap.Session(on="lambda", store=tmp_path)


def test_a_task_that_maps_in_its_turn_does_so_where_it_is(direct):
    def outer(n):
        import fnmap

        return sum(fnmap.map(lambda x: x + 1, range(n)))

    assert list(direct.map(outer, [3, 4])) == [6, 10]


def test_a_queue_for_reports_is_tagged_as_the_deployments_so_that_destroy_finds_it(detached, aws_here):
    assert list(detached.map(double, range(2), name="tagged")) == [0, 2]
    sqs = boto3_client("sqs", aws_here.env)
    queue = detached.compute.detached.queue
    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"][TAG] == "fnmap"


def test_queues_of_clients_that_are_gone_are_collected_and_no_others(make_aws, capsys):
    aws = make_aws()
    sqs, now = boto3_client("sqs", aws.env), time.time()

    def left(name, days, deployment="fnmap"):
        sqs.create_queue(QueueName=name, tags={TAG: deployment, HEARD: str(int(now - 86_400 * days))})

    def there():
        return {
            url.rpartition("/")[2] for url in sqs.list_queues(QueueNamePrefix="fnmap-answers-").get("QueueUrls", ())
        }

    with fnmap.Session(on=LambdaCompute(mode="detached", workers=2)) as session:
        assert list(session.map(double, [1], name="listens")) == [2]
        live = there()
        left("fnmap-answers-gone", 3)
        left("fnmap-answers-sleeps", 0.9)
        left("fnmap-answers-of-others", 3, "fnmap-answers")
        sqs.create_queue(QueueName="fnmap-answers-unsaid", tags={TAG: "fnmap"})
        before = there()
        assert session.gc("4d").queues == ()
        assert session.gc(0, dry_run=True).queues == ("fnmap-answers-gone",)
        assert there() == before
        assert main(["gc", "1d", "--deployment"]) == 0
        assert "1 queues of clients that are gone deleted" in capsys.readouterr().out
        assert there() == before - {"fnmap-answers-gone"} > live
    fnmap.close()


def test_a_queue_that_is_listed_after_its_end_keeps_no_other_from_being_collected(make_aws, monkeypatch):
    aws = make_aws()
    sqs = boto3_client("sqs", aws.env)
    long_ago = {TAG: "fnmap", HEARD: "0"}
    away = sqs.create_queue(QueueName="fnmap-answers-away", tags=long_ago)["QueueUrl"]
    sqs.create_queue(QueueName="fnmap-answers-left", tags=long_ago)
    listed = list(aws_queues._urls(Service("sqs"), "fnmap"))
    sqs.delete_queue(QueueUrl=away)
    monkeypatch.setattr(aws_queues, "_urls", lambda *_: listed)
    assert "fnmap-answers-left" in aws_queues.collect_queues("fnmap", 0, dry_run=False)
    assert "fnmap-answers-left" not in str(sqs.list_queues(QueueNamePrefix="fnmap-answers-left"))


def test_a_client_says_that_it_listens(make_aws, monkeypatch):
    aws = make_aws()
    sqs = boto3_client("sqs", aws.env)
    monkeypatch.setattr("fnmap.compute.aws_detached.BEAT_S", 0.0)
    monkeypatch.setattr("fnmap.compute.aws_detached.LOOK_S", 0.01)
    with fnmap.Session(on=LambdaCompute(mode="detached", workers=2)) as session:
        assert list(session.map(double, [1], name="says")) == [2]
        queue = session.compute.detached.queue
        sqs.tag_queue(QueueUrl=queue, Tags={HEARD: "7"})
        patience = time.monotonic() + PATIENCE_S
        while sqs.list_queue_tags(QueueUrl=queue)["Tags"][HEARD] == "7":
            assert time.monotonic() < patience


def test_runs_are_collected_without_the_right_to_look_for_queues(make_aws, s3_server, monkeypatch, caplog):
    make_aws()
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", proxy.endpoint)
        proxy.answers.append((403, b'{"__type":"AccessDenied","message":"sqs:ListQueues"}'))
        with fnmap.Session(on=LambdaCompute(mode="direct", workers=1)) as session:
            session.map(double, [1], name="goes").wait()
            assert session.gc(0).runs == ("goes",)
    assert "queues of clients that are gone may be left" in caplog.text


def test_two_sessions_at_once_get_their_own_answers(direct, detached):
    runs = [session.map(lambda x, k=k: x * k, range(20)) for k, session in enumerate((direct, detached, direct), 1)]
    assert [sum(run) for run in runs] == [190, 380, 570]


WALKS_AWAY = """
import sys, fnmap
from fnmap.compute.aws_lambda import LambdaCompute
sys.path.insert(0, {tests!r})
from gates import say_at, wait_at

def work(x):
    say_at({begun!r})
    wait_at({gate!r})
    return 10 * x

session = fnmap.Session(on=LambdaCompute(workers=2, mode="detached"))
session.map(work, range(2), name="laptop", chunksize=1).result()
"""


def test_the_laptop_may_be_closed_and_another_finds_all_results(aws_here, start, begun, gate):
    text = WALKS_AWAY.format(tests=str(Path(__file__).parents[1]), begun=begun.path, gate=gate.path)
    client = start(text)
    begun.heard(2)
    client.send_signal(signal.SIGKILL)
    client.wait()
    gate.open(2)
    with fnmap.Session(on="lambda", workers=2) as session:
        run = session.attach("laptop")
        done = iter(lambda: run.status.done, None)
        while next(done) < 2:  # the calls finish by themselves, and commit: nothing is run again
            run = session.attach("laptop")
        assert list(run) == [0, 10]


def test_a_session_that_is_closed_in_the_middle_leaves_nothing_behind(aws_here, gate, recwarn):
    before = set(threading.enumerate())
    for mode in ("direct", "detached"):
        session = fnmap.Session(on=LambdaCompute(workers=2, mode=mode))
        run = session.map(wait_at, [gate.path] * 2, name=f"closed-{mode}", chunksize=1)
        session.close()
        gate.open(2)
        with pytest.raises(fnmap.errors.RunError, match="closed"):
            run.result()
    assert not [t.name for t in set(threading.enumerate()) - before if t.name.startswith("fnmap")]
    assert not [w for w in recwarn if "fnmap" in str(w.message)]


def test_a_cancelled_run_ends_at_once_both_ways(named, gate, request):
    run = named.map(wait_at, [gate.path] * 2, name=request.node.name.replace("[", "-").strip("]"), chunksize=1)
    run.cancel()
    with pytest.raises(fnmap.errors.RunCancelled):
        run.result()
    assert run.status.state == "cancelled"
    gate.open(2)


def test_metrics_are_a_line_of_the_log_each_call_and_none_when_off(aws_here, deploy):
    for on in ("0", "1"):
        name = deploy(f"metrics-{on}", FNMAP_METRICS=on)
        with fnmap.Session(on=LambdaCompute(name, workers=1)) as session:
            session.map(refuse, [1, 2], errors="return", chunksize=2).result()
        lines = [line for log in aws_here.service.logs(name) for line in log.splitlines() if '"_aws"' in line]
        assert len(lines) == int(on)
    said = json.loads(lines[0])
    assert (said["Function"], said["Tasks"], said["Failures"], said["ColdStarts"]) == ("metrics-1", 2, 1, 1)
    assert {m["Name"] for m in said["_aws"]["CloudWatchMetrics"][0]["Metrics"]} == said.keys() - {"_aws", "Function"}


def test_a_function_that_cannot_be_loaded_is_named_with_metrics_on_too(aws_here, deploy):
    class Odd:
        def __reduce__(self):
            return int, ("not a number",)

    odd = Odd()
    session = fnmap.Session(on=LambdaCompute(deploy("metrics-1", FNMAP_METRICS="1"), workers=1))
    with session, pytest.raises(fnmap.errors.ResultLost, match="could not be loaded by the worker: ValueError"):
        session.map(lambda _: odd, [1]).result()
