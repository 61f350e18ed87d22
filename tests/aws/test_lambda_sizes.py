"""Tasks that need more memory than the function has: they go where there is more, both ways, and others do not."""

from __future__ import annotations

import json
import signal
import sys

import pytest

import fnmap
from fnmap.aws.configuration import Configuration, read_configuration
from fnmap.aws.requests import Service
from fnmap.compute.aws_lambda import LambdaCompute
from fnmap.errors import DeployError, TaskPoisoned

PATIENCE_S = 60
HELD_S = 0.4  # long enough for the service, which looks every 50 ms


def hold(mb):
    """Hold so much memory for a while; how much the function has."""
    import os
    import select

    held = bytearray(b"x") * (mb << 20)
    select.select([], [], [], HELD_S)
    return len(held) and int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])


@pytest.fixture(scope="module")
def sized(local_aws):
    """A deployment of 300, 600 and 1200 MB."""
    return local_aws.deploy("sized", memory_mb=300, sizes=(2, 4))


@pytest.fixture(params=["direct", "detached"])
def session(aws_here, sized, request):
    with fnmap.Session(on=LambdaCompute(sized, workers=2, mode=request.param)) as session:
        yield session


@pytest.fixture
def direct(aws_here, sized):
    with fnmap.Session(on=LambdaCompute(sized, workers=2, mode="direct")) as session:
        yield session


def name_of(request):
    return request.node.name.replace("[", "-").strip("]")


# -- in processes that run out of it ---------------------------------------------------------------------


def test_a_task_that_is_out_of_memory_is_done_where_there_is_twice_as_much(session, request):
    assert list(session.map(hold, [1, 350, 2], chunksize=1, name=name_of(request))) == [300, 600, 300]


def test_the_third_try_is_where_there_is_four_times_as_much(session, request):
    assert list(session.map(hold, [800], name=name_of(request))) == [1200]


def test_the_mates_of_such_a_task_do_not_go_with_it(direct):
    assert list(direct.map(hold, [1, 350, 2], chunksize=3)) == [300, 600, 300]


@pytest.mark.parametrize("kind", ["Runtime.OutOfMemory", "Runtime.ExitError"])
def test_an_environment_that_is_out_of_memory_as_a_whole_counts_as_that_too(make_aws, kind):
    make_aws(sizes=(2,))
    compute = LambdaCompute(workers=1)
    seen, post = paths(compute), compute.wire.post

    async def killed(path, *more):
        if len(seen):
            return await post(path, *more)
        seen.append("killed")
        said = {"errorType": kind, "errorMessage": "Runtime exited with error: signal: killed"}
        return 200, {"x-amz-function-error": "Unhandled"}, json.dumps(said).encode()

    compute.wire.post = killed
    with fnmap.Session(on=compute) as session:
        assert list(session.map(abs, [-1])) == [1]
    assert seen == ["killed", "fnmap-2x"]


def test_what_is_too_large_for_the_biggest_size_says_what_gives_more(direct):
    ways = r"out of memory.*no bigger size; `fnmap deploy --name sized --sizes 2,4,8` .* `.* --memory 600`"
    with pytest.raises(TaskPoisoned, match=ways) as caught:
        direct.map(hold, [1500]).result()
    assert caught.value.attempts == 4


def test_a_factor_of_one_keeps_every_attempt_at_the_size_of_the_first(direct):
    retry = fnmap.Retry(0, memory_factor=1)
    with pytest.raises(TaskPoisoned, match=r"sizes up to 1,200 MB, which Retry\(memory_factor=2\) takes"):
        direct.map(hold, [350], retries=retry).result()


PROGRAM = f"""#!{sys.executable}
import os, select
held = bytearray(b"x") * (350 << 20)
select.select([], [], [], {HELD_S})
print(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])
"""


def test_a_program_that_is_out_of_memory_has_failed_and_has_more_of_it_if_retry_says_so(direct, tmp_path):
    path = tmp_path / "hold"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    run = fnmap.command(str(path))
    with pytest.raises(fnmap.errors.CommandFailed) as caught:
        direct.map(run, [{}]).result()
    assert caught.value.returncode == -signal.SIGKILL
    assert list(direct.map(run, [{}], retries=fnmap.Retry(1, memory_factor=2))) == ["600\n"]


# -- where calls go --------------------------------------------------------------------------------------


def test_retries_of_exceptions_have_more_memory_only_if_retry_says_so(make_aws):
    aws = make_aws(sizes=(2, 4))
    for factor, names in (
        (None, ["fnmap"] * 3),
        (2, ["fnmap", "fnmap-2x", "fnmap-4x"]),
        (3, ["fnmap", *["fnmap-4x"] * 2]),
    ):
        compute = LambdaCompute(workers=1)
        seen = paths(compute)
        retry = fnmap.Retry(2, backoff_s=0.001, memory_factor=factor)
        with fnmap.Session(on=compute) as session, pytest.raises(ZeroDivisionError):
            session.map(lambda x: 1 // x, [0], retries=retry).result()
        assert seen == names
    assert aws.service.counts["invocations"] == 9


def paths(compute):
    """The functions that will be invoked, in their order."""
    seen, post = [], compute.wire.post

    async def overheard(path, *more):
        if path.endswith("/invocations"):
            seen.append(path.split("/")[-2])
        return await post(path, *more)

    compute.wire.post = overheard
    return seen


def test_many_events_of_a_bigger_size_leave_by_way_of_invokers_of_that_size(make_aws):
    aws = make_aws(sizes=(2,))
    compute = LambdaCompute(workers=60, mode="detached")
    seen = paths(compute)
    retry = fnmap.Retry(1, backoff_s=0.001, memory_factor=2)
    with fnmap.Session(on=compute) as session:
        run = session.map(lambda x: 1 // 0, range(60), chunksize=1, retries=retry, errors="return", name="big")
        assert [error.attempts for error in run] == [2] * 60
    assert set(seen) == {"fnmap", "fnmap-2x"}
    ran = {name: len(aws.service.logs(name)) for name in set(seen)}
    assert min(ran.values()) >= 60
    assert sum(ran.values()) == aws.service.counts["invocations"]


def test_a_size_that_is_gone_is_named_with_the_command_that_makes_it(make_aws):
    aws = make_aws(sizes=(2,))
    aws.client.delete_function(FunctionName="fnmap-2x")
    retry = fnmap.Retry(1, backoff_s=0.001, memory_factor=2)
    with fnmap.Session(on="lambda", workers=1) as session, pytest.raises(DeployError, match=r"'fnmap-2x' is gone: run"):
        session.map(lambda x: 1 // x, [0], retries=retry).result()


def test_a_size_that_is_switched_off_is_named(make_aws):
    aws = make_aws(sizes=(2,))
    aws.client.put_function_concurrency(FunctionName="fnmap-2x", ReservedConcurrentExecutions=0)
    retry = fnmap.Retry(1, backoff_s=0.001, memory_factor=2)
    session = fnmap.Session(on="lambda", workers=1)
    with session, pytest.raises(DeployError, match=r"'fnmap-2x' is switched off"):
        session.map(lambda x: 1 // x, [0], retries=retry).result()


# -- which sizes there are -------------------------------------------------------------------------------


def of(memory_mb, *sizes):
    return Configuration("fnmap", b"", "s3://b", "3.11", memory_mb, 900.0, {}, "", (1, *sizes))


@pytest.mark.parametrize(
    ("memory", "function"), [(1, "fnmap"), (1.5, "fnmap-2x"), (2, "fnmap-2x"), (2.1, "fnmap-4x"), (8, "fnmap-4x")]
)
def test_a_call_goes_to_the_smallest_size_that_is_big_enough_else_to_the_biggest(memory, function):
    assert of(1000, 2, 4).size(memory).function == function


def test_they_are_learnt_from_the_one_request_there_is(aws_here, sized, monkeypatch):
    asked = []
    ask = Service.ask

    def counted(service, method, path, *more):
        asked.append(path)
        return ask(service, method, path, *more)

    monkeypatch.setattr(Service, "ask", counted)
    there = read_configuration(Service("lambda"), sized)
    assert (there.sizes, len(asked)) == ((1, 2, 4), 1)


def test_a_deployment_of_before_there_were_sizes_has_one(aws_here, deploy):
    name = deploy("before")
    said = aws_here.client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    del said["FNMAP_SIZES"]
    aws_here.client.update_function_configuration(FunctionName=name, Environment={"Variables": said})
    assert read_configuration(Service("lambda"), name).sizes == (1,)


@pytest.mark.parametrize(
    ("there", "ways"),
    [
        (of(1000), "`fnmap deploy --sizes 2` gives more to such tasks alone, `fnmap deploy --memory 2000` gives"),
        (of(1000, 2, 5), "`fnmap deploy --sizes 2,5,10` gives more to such tasks alone, `fnmap deploy --memory 2000`"),
        (of(2000, 4), "there is no bigger size; `fnmap deploy --memory 2560` gives more to all"),
        (of(10_240), "there is no bigger size; nor has Lambda one: give each task less to do"),
        (of(2560, 4), "there is no bigger size; nor has Lambda one: give each task less to do"),
    ],
)
def test_what_gives_more_is_said_as_far_as_lambda_has_it(there, ways):
    assert ways in there.more_memory(there.size(100))
