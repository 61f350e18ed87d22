"""What goes wrong on the way to Lambda, in it and on the way back: each is named, or mended, and the run ends right."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest
from gates import say_at, wait_at

import fnmap
from fnmap.aws import wire
from fnmap.compute import aws_detached
from fnmap.compute.aws_lambda import LambdaCompute
from fnmap.errors import ComputeError, DeployError, StoreBusy, TaskPoisoned, TaskTimeout, UsageError, WorkerLost
from fnmap.format.call import Report
from fnmap.storage.retrying import Retrying
from fnmap.testing.proxy import FaultyProxy

PATIENCE_S = 40


def session_of(name="fnmap", workers=2, **options):
    return fnmap.Session(on=LambdaCompute(name, workers=workers, **options))


def square(x):
    return x * x


# -- in the function -----------------------------------------------------------------------------------


def test_a_task_over_its_limit_is_killed_and_its_mates_finish(aws_here, gate):
    def work(x):
        return wait_at(gate.path) if x == 1 else x

    with session_of() as session:
        got = list(session.map(work, range(3), timeout=0.5, errors="return", chunksize=3))
    assert (got[0], type(got[1]), got[2]) == (0, TaskTimeout, 2)


def test_a_limit_that_the_function_does_not_give_is_refused_with_the_way_out(aws_here):
    with session_of() as session, pytest.raises(UsageError, match=r"60 s at most.*fnmap deploy --timeout"):
        session.map(square, [1], timeout=61)


def test_a_deployment_that_has_all_the_time_there_is_is_not_told_to_take_more(aws_here, deploy):
    with session_of(deploy("patient", timeout_s=900)) as session, pytest.raises(UsageError, match="900 s") as caught:
        session.map(square, [1], timeout=901)
    assert "fnmap deploy" not in str(caught.value)


def test_a_task_that_takes_longer_than_the_function_may_is_named(aws_here, deploy, gate):
    with session_of(deploy("brief", timeout_s=2)) as session:
        got = list(session.map(lambda x: wait_at(gate.path) if x else x, [0, 1], errors="return", chunksize=2))
    assert (got[0], type(got[1])) == (0, TaskTimeout)
    assert "all that the function's time-out leaves it" in str(got[1])


def test_a_lone_call_that_takes_longer_is_named_too(aws_here, deploy, gate):
    with session_of(deploy("brief", timeout_s=2)) as session, pytest.raises(TaskTimeout):
        session.submit(wait_at, gate.path).result()


def test_a_chunk_that_takes_longer_than_the_function_may_goes_on_in_another_call(aws_here):
    with session_of(workers=1) as session:
        session.compute.there = replace(session.compute.there, timeout_s=1e-9)  # gone with the first task
        run = session.map(square, range(5), chunksize=5)
        assert list(run) == [x * x for x in range(5)]
        assert run.report()["calls"] == 5


def test_an_environment_that_is_killed_costs_its_tasks_nothing(aws_here, begun, gate):
    def work(x):
        say_at(begun.path)
        wait_at(gate.path)
        return x

    with session_of() as session:
        run = session.map(work, range(2), chunksize=1, name="killed")
        begun.heard(2)
        for alive in aws_here.service.environments():
            if alive.busy:
                aws_here.service.kill_environment(alive.number)
        gate.open(4)
        assert list(run) == [0, 1]


def test_a_worker_that_is_out_of_memory_is_named_with_what_gives_it_more(aws_here, deploy):
    def hoard(_):
        return len(bytearray(b"x") * (600 << 20))

    session = session_of(deploy("small", memory_mb=300), workers=1)
    with (
        session,
        pytest.raises(
            TaskPoisoned, match=r"out of memory.*fnmap deploy --name small --sizes 2`.*--name small --memory 600"
        ),
    ):
        session.map(hoard, [1]).result()


def test_a_function_that_does_not_start_is_named_and_ends_the_run(aws_here, deploy):
    name = deploy("broken")
    aws_here.client.update_function_configuration(FunctionName=name, Handler="fnmap.nowhere.handle")
    with session_of(name) as session, pytest.raises(DeployError, match=r"does not start.*fnmap deploy"):
        session.map(square, range(3)).result()


def test_a_package_that_is_missing_in_the_function_is_told_by_the_task(aws_here, deploy):
    def load(_):
        import a_package_that_is_nowhere  # noqa: F401 - that is the point

    with session_of() as session:
        with pytest.raises(ModuleNotFoundError, match="a_package_that_is_nowhere") as caught:
            session.map(load, [1]).result()
        (error,) = session.map(load, [1], errors="return")
    for said in (caught.value.__notes__[0], str(error)):
        assert "`fnmap deploy --add PACKAGE`" in said


# -- too much for it -----------------------------------------------------------------------------------


def test_a_storm_of_429_ends_with_all_results_and_few_refusals(make_aws):
    aws = make_aws(concurrency=2)
    with session_of(workers=100) as session:
        assert list(session.map(square, range(300), chunksize=1)) == [x * x for x in range(300)]
    assert aws.service.counts["throttled"] < 300


def test_a_ramp_is_climbed(make_aws):
    make_aws(ramp=3, ramp_s=0.5)
    with session_of(workers=50) as session:
        assert sum(session.map(square, range(100), chunksize=1)) == 328350


@pytest.mark.parametrize("mode", ["direct", "detached"])
def test_a_function_that_is_switched_off_is_named(make_aws, mode):
    aws = make_aws()
    aws.client.put_function_concurrency(FunctionName="fnmap", ReservedConcurrentExecutions=0)
    with session_of(mode=mode) as session, pytest.raises(DeployError, match="delete-function-concurrency"):
        session.map(square, range(3), name=f"off-{mode}").result()


def test_a_lone_call_that_is_refused_for_now_takes_its_turn(make_aws):
    aws = make_aws()
    with session_of() as session, FaultyProxy(aws.service.endpoint, rate=0) as proxy, pytest.MonkeyPatch.context() as m:
        m.setenv("AWS_ENDPOINT_URL_LAMBDA", proxy.endpoint)
        proxy.answers.append((429, b'{"Reason":"ConcurrentInvocationLimitExceeded"}'))
        assert session.submit(square, 3).result() == 9


# -- on the way ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.9])
def test_a_faulty_network_to_lambda_loses_nothing(make_aws, rate, monkeypatch):
    monkeypatch.setattr(wire, "BACKOFF_S", 0.002)
    monkeypatch.setattr("fnmap.compute.aws_window.Window.pause_s", lambda *_: 0.01)
    aws = make_aws()
    with FaultyProxy(aws.service.endpoint, rate=0, seed=3, faults=("503", "500", "reset", "truncate")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", proxy.endpoint)
        with session_of(workers=10) as session:
            proxy.rate = rate
            assert list(session.map(square, range(60), chunksize=2)) == [x * x for x in range(60)]
        assert proxy.failures.total() or rate == 0.01


@pytest.mark.parametrize(("rate", "tasks"), [(0.01, 60), (0.2, 30), (0.9, 4)])
def test_a_faulty_network_to_the_bucket_loses_nothing(make_aws, s3_server, rate, tasks, monkeypatch):
    monkeypatch.setitem(Retrying.__init__.__kwdefaults__, "backoff_s", 0.001)
    monkeypatch.setattr("fnmap.storage.s3._pace", lambda *_: None)
    make_aws()
    with FaultyProxy(s3_server.endpoint, rate=0, seed=5, faults=("503", "500", "reset", "truncate")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        with session_of(workers=4) as session:
            proxy.rate = rate
            for _ in range(30):
                try:
                    got = list(session.map(square, range(tasks), chunksize=2, name="faulty"))
                    break
                except StoreBusy:  # it says so, and the same call goes on
                    proxy.rate *= 0.7
            assert got == [x * x for x in range(tasks)]


def test_a_service_that_stays_away_ends_the_run_with_its_name(make_aws, monkeypatch):
    monkeypatch.setattr(wire, "BACKOFF_S", 0.001)
    monkeypatch.setattr("fnmap.compute.aws_window.ILL_S", 0.2)
    make_aws()
    with session_of() as session:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
        with pytest.raises(ComputeError, match="no call got through"):
            session.map(square, range(3)).result()


@pytest.mark.parametrize("what", ["lose", "duplicate"])
def test_asynchronous_events_may_be_lost_or_come_twice(make_aws, what):
    aws = make_aws(timeout_s=1, seed=2, **{what: 0.3})
    with session_of(workers=15, mode="detached", patience_s=0.0) as session:
        assert list(session.map(square, range(40), chunksize=1, name=f"events-{what}")) == [x * x for x in range(40)]
    assert aws.service.counts[{"lose": "lost", "duplicate": "duplicated"}[what]]


class Clock:
    """What stands for the module `time` of detached calls: it goes on when it is told to."""

    def __init__(self):
        self.now, self._looks, self._looked = 1000.0, 0, threading.Condition()

    def monotonic(self):
        with self._looked:
            self._looks += 1
            self._looked.notify_all()
        return self.now

    def time(self):
        return self.now

    def go_on(self, seconds):
        """Let time pass, until those that watch have looked at it twice."""
        self.now += seconds
        with self._looked:
            until = self._looks + 2
            assert self._looked.wait_for(lambda: self._looks >= until, PATIENCE_S)


def test_calls_that_wait_for_their_turn_in_lambdas_queue_are_not_taken_for_lost(make_aws, gate, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(aws_detached, "time", clock)
    monkeypatch.setattr(aws_detached, "LOOK_S", 0.01)

    def work(x):
        wait_at(gate.path)
        return x

    aws = make_aws(timeout_s=60, concurrency=1, delay_scale=0.0002)
    with session_of(workers=6, mode="detached", patience_s=40.0) as session:  # silence for 100 s means that all is lost
        results = session.map(work, range(6), chunksize=1, name="queue", idempotent=False, ordered=False)
        arrived = iter(results)
        done = []
        for _ in range(6):
            gate.open(1)
            done.append(next(arrived))
            clock.go_on(90)
        assert sorted(done) == list(range(6))
    assert aws.service.counts["events"] == 6


def test_many_events_leave_by_way_of_invokers(make_aws):
    aws = make_aws()
    with session_of(workers=150, mode="detached") as session:
        assert list(session.map(square, range(150), chunksize=1, name="fan", idempotent=False)) == [
            x * x for x in range(150)
        ]
    assert aws.service.counts["events"] > 150


def test_a_call_that_is_withdrawn_before_its_first_step_is_answered(make_aws):
    make_aws()
    compute = LambdaCompute(workers=1)
    future: Future[Report] = Future()

    async def never() -> Report:
        raise AssertionError("it was withdrawn")

    def begin_and_stop() -> None:
        compute.wire.start(never(), future)
        compute.wire._tasks[future].cancel()

    compute.wire._loop.call_soon_threadsafe(begin_and_stop)
    with pytest.raises(WorkerLost):
        future.result(5)
    compute.close()
