"""The local Lambda service, by boto3 and with the genuine runtime: each limit and each failure of the real one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gates import Gate, gone

boto3 = pytest.importorskip("boto3", reason="needs boto3, of fnmap[aws]")
aiohttp = pytest.importorskip("aiohttp", reason="needs aiohttp, of fnmap[aws]")
pytest.importorskip("awslambdaric", reason="needs awslambdaric, of fnmap[test]")

from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

from fnmap.testing.aws import layers, manage  # noqa: E402
from fnmap.testing.aws_lambda import LambdaService  # noqa: E402

HERE = f"python{sys.version_info[0]}.{sys.version_info[1]}"
ROLE = "arn:aws:iam::123456789012:role/r"
CODE = """
import os, sys, time, subprocess
calls = 0

def handler(event, context):
    global calls
    calls += 1
    print("told", event)
    return globals()[event.get("do", "echo")](event, context)

def echo(event, context):
    return {"event": event, "pid": os.getpid(), "calls": calls, "arn": context.invoked_function_arn}
def environ(event, context): return {**os.environ, "cwd": os.getcwd()}
def left(event, context): return context.get_remaining_time_in_millis()
def client(event, context): return context.client_context.custom
def fail(event, context): raise KeyError("no deal")
def leave(event, context): os._exit(event["status"])
def die(event, context): os.kill(os.getpid(), 11)
def hang(event, context): time.sleep(60)
def hog(event, context): keep = bytearray(400 << 20); time.sleep(60)
def gulp(event, context): bytearray(300 << 20)
def feed(event, context):
    gluttony = "import time; keep = bytearray(400 << 20); time.sleep(60)"
    return subprocess.run([sys.executable, "-c", gluttony]).returncode
def child(event, context):
    return subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
def say(event, context):
    with open(event["gate"], "w") as gate:
        gate.write(f"{os.getpid()}\\n")
    time.sleep(60)
def large(event, context): return "x" * event["bytes"]
def find(event, context): return __import__(event["module"]).__file__
"""


def zipped(**files: str) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return body.getvalue()


def connect(service: LambdaService):
    return boto3.client(
        "lambda",
        endpoint_url=service.endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=64),
    )


def make(client, name="f", code=None, **fields):
    code = {"ZipFile": code or zipped(m=CODE)}
    fields = {"Runtime": HERE, "Role": ROLE, "Handler": "m.handler", "Code": code, **fields}
    return client.create_function(FunctionName=name, **fields)


def call(client, do="echo", name="f", **event):
    return read(client.invoke(FunctionName=name, Payload=json.dumps({"do": do, **event})))


def read(answer):
    value = json.loads(answer["Payload"].read())
    return (answer["FunctionError"], value) if "FunctionError" in answer else value


def refused(call, *args, **options) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(*args, **options)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def until(seen):
    """Wait for what another thread or process does; a hang is a failure."""
    end = time.monotonic() + 10
    while not (value := seen()):
        assert time.monotonic() < end, "it never came to be"
        threading.Event().wait(0.002)
    return value


@pytest.fixture(scope="module")
def service():
    with LambdaService(init_s=3, extra_env={"AWS_ENDPOINT_URL_S3": "http://s3.here"}) as service:
        make(connect(service), Timeout=20)
        make(connect(service), "hasty", Timeout=1)
        yield service


@pytest.fixture(scope="module")
def client(service):
    return connect(service)


@pytest.fixture(scope="module")
def aws():
    """S3 and SQS."""
    moto = pytest.importorskip("moto.server", reason="needs moto[server], of fnmap[test]")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    yield {f"AWS_ENDPOINT_URL_{s}": endpoint for s in ("S3", "SQS")} | {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    server.stop()


def other(kind: str, aws: dict[str, str]):
    return boto3.client(
        kind,
        endpoint_url=aws[f"AWS_ENDPOINT_URL_{kind.upper()}"],
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )


# --- management


def test_a_new_function_is_active_and_the_waiters_pass(client):
    made = make(client, "new", Description="d", MemorySize=256, Environment={"Variables": {"A": "1"}}, Tags={"t": "1"})
    for waiter in (
        "function_active_v2",
        "function_updated_v2",
        "function_active",
        "function_updated",
        "function_exists",
    ):
        client.get_waiter(waiter).wait(FunctionName="new")
    got = client.get_function(FunctionName=made["FunctionArn"])
    assert got["Configuration"]["MemorySize"] == 256
    assert got["Configuration"]["CodeSha256"] == made["CodeSha256"]
    assert got["Configuration"]["Environment"] == {"Variables": {"A": "1"}}
    assert got["Tags"] == {"t": "1"}
    assert "new" in [f["FunctionName"] for f in client.list_functions()["Functions"]]


def test_functions_are_listed_page_by_page(client):
    make(client, "page1")
    make(client, "page2")
    pages = [*client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})]
    assert all(len(page["Functions"]) == 1 for page in pages)
    assert {"page1", "page2"} < {page["Functions"][0]["FunctionName"] for page in pages}


def test_a_second_function_of_a_name_conflicts_and_a_deleted_one_is_not_found(client):
    make(client, "twice")
    assert refused(make, client, "twice")[:2] == (409, "ResourceConflictException")
    client.delete_function(FunctionName="twice")
    assert refused(client.get_function, FunctionName="twice")[:2] == (404, "ResourceNotFoundException")
    assert refused(client.invoke, FunctionName="twice")[:2] == (404, "ResourceNotFoundException")
    assert refused(client.delete_function, FunctionName="twice")[:2] == (404, "ResourceNotFoundException")


def test_new_code_and_new_variables_meet_the_next_call(client):
    make(client, "changing", code=zipped(m="def handler(e, c): return 1"))
    assert call(client, name="changing") == 1
    source = zipped(m="import os\ndef handler(e, c): return os.environ.get('A', 2)")
    client.update_function_code(FunctionName="changing", ZipFile=source)
    assert call(client, name="changing") == 2
    client.update_function_configuration(FunctionName="changing", Environment={"Variables": {"A": "3"}})
    assert call(client, name="changing") == "3"
    change = client.update_function_configuration
    assert refused(change, FunctionName="changing", RevisionId="old")[:2] == (412, "PreconditionFailedException")


def test_a_zip_comes_from_s3(aws):
    s3 = other("s3", aws)
    s3.create_bucket(Bucket="codes")
    s3.put_object(Bucket="codes", Key="f.zip", Body=zipped(m="def handler(e, c): return 'from s3'"))
    with LambdaService(extra_env=aws) as service:
        client = connect(service)
        create = {"FunctionName": "f", "Runtime": HERE, "Role": ROLE, "Handler": "m.handler"}
        client.create_function(**create, Code={"S3Bucket": "codes", "S3Key": "f.zip"})
        assert call(client) == "from s3"
        status, code, message = refused(
            client.update_function_code, FunctionName="f", S3Bucket="codes", S3Key="gone.zip"
        )
        assert (status, code) == (400, "InvalidParameterValueException")
        assert "S3 Error Code: NoSuchKey" in message


def too_long() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("m.py", "")
        archive.filelist[0].file_size = 262_144_001  # what the directory of the zip says
    return body.getvalue()


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "Could not unzip uploaded file"),
        ({"Code": {"ZipFile": too_long()}}, "InvalidParameterValueException", "must be smaller than 262144000 bytes"),
        ({"Timeout": 901}, "ValidationException", "less than or equal to 900"),
        ({"MemorySize": 10_241}, "ValidationException", "less than or equal to 10240"),
        ({"Environment": {"Variables": {"A": "x" * 4096}}}, "InvalidParameterValueException", "exceeded the 4KB limit"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException", "AWS_REGION"),
        ({"Runtime": "python3.8"}, "InvalidParameterValueException", "python3.8"),
        ({"Layers": ["arn:layer"]}, "InvalidParameterValueException", "arn:layer does not exist"),
        ({"Layers": ["arn:layer"] * 6}, "InvalidParameterValueException", "more than 5 layers"),
        ({"VpcConfig": {"SubnetIds": ["a"]}}, "InvalidParameterValueException", "does not build VpcConfig"),
    ],
)
def test_a_function_that_cannot_be_is_refused(client, fields, code, message):
    status, kind, text = refused(make, client, "wrong", **fields)
    assert (status, kind) == (400, code)
    assert message in text


def test_an_upload_over_its_limit_is_refused(client, monkeypatch):
    monkeypatch.setattr(manage, "UPLOAD_BYTES", 1000)
    assert refused(make, client, "bulky", code=bytes(1000))[:2] == (413, "RequestEntityTooLargeException")


def test_code_beyond_the_storage_of_the_account_is_refused():
    with LambdaService(code_storage_bytes=10) as service:
        assert refused(make, connect(service))[:2] == (400, "CodeStorageExceededException")


def test_the_deployed_zip_can_be_had_again(client):
    from urllib.request import urlopen

    make(client, "kept", code=(body := zipped(m="x = 1")))
    assert urlopen(client.get_function(FunctionName="kept")["Code"]["Location"]).read() == body


def packed(**modules: str) -> bytes:
    """A layer."""
    return zipped(**{f"python/{name}": text for name, text in modules.items()})


def test_functions_find_the_packages_of_their_layers_behind_their_own(client):
    first = client.publish_layer_version(LayerName="l", Content={"ZipFile": packed(a="x = 1", b="x = 1", c="x = 1")})
    second = client.publish_layer_version(LayerName="l", Content={"ZipFile": packed(b="x = 2", c="x = 2")})
    layers = [first["LayerVersionArn"], second["LayerVersionArn"]]
    source = "import a, b, c\ndef handler(event, context): return [a.x, b.x, c.x]"
    make(client, "layered", code=zipped(m=source, c="x = 3"), Layers=layers, VpcConfig={"SubnetIds": []})
    assert call(client, name="layered") == [1, 2, 3]
    assert client.list_layers()["Layers"][0]["LatestMatchingVersion"]["Version"] == 2
    client.delete_layer_version(LayerName="l", VersionNumber=2)
    assert [v["Version"] for v in client.list_layer_versions(LayerName="l")["LayerVersions"]] == [1]
    assert refused(client.get_layer_version, LayerName="l", VersionNumber=2)[:2] == (404, "ResourceNotFoundException")
    client.update_function_configuration(FunctionName="layered", Layers=[])
    assert call(client, name="layered")[1]["errorType"] == "Runtime.ImportModuleError"


def test_layers_count_towards_the_limit_of_a_function(client, monkeypatch):
    monkeypatch.setattr(layers, "UNZIPPED_BYTES", 50)
    layer = client.publish_layer_version(LayerName="wide", Content={"ZipFile": packed(a="x" * 30)})
    make(client, "narrow", code=zipped(m="x" * 30))
    add = client.update_function_configuration
    assert "exceeds the maximum" in refused(add, FunctionName="narrow", Layers=[layer["LayerVersionArn"]])[2]


def test_tags_come_and_go(client):
    arn = make(client, "tagged", Tags={"a": "1", "b": "2"})["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"c": "3"})
    client.untag_resource(Resource=arn, TagKeys=["a", "b"])
    assert client.list_tags(Resource=arn)["Tags"] == {"c": "3"}


def test_reserved_concurrency_is_kept_and_leaves_a_hundred_to_others(client):
    make(client, "reserved")
    client.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=10)
    assert client.get_function_concurrency(FunctionName="reserved")["ReservedConcurrentExecutions"] == 10
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 990
    status, code, message = refused(
        client.put_function_concurrency, FunctionName="reserved", ReservedConcurrentExecutions=901
    )
    assert (status, code) == (400, "InvalidParameterValueException")
    assert "[100]" in message
    client.delete_function_concurrency(FunctionName="reserved")
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000


def test_the_configuration_of_events_comes_and_goes(client):
    make(client, "evented")
    assert refused(client.get_function_event_invoke_config, FunctionName="evented")[0] == 404
    client.put_function_event_invoke_config(FunctionName="evented", MaximumRetryAttempts=1)
    client.update_function_event_invoke_config(FunctionName="evented", MaximumEventAgeInSeconds=60)
    got = client.get_function_event_invoke_config(FunctionName="evented")
    assert (got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]) == (1, 60)
    client.delete_function_event_invoke_config(FunctionName="evented")
    assert refused(client.get_function_event_invoke_config, FunctionName="evented")[0] == 404


def test_what_is_not_built_says_so(client):
    status, code, message = refused(client.publish_version, FunctionName="f")
    assert (status, code) == (404, "UnknownOperationException")
    assert "does not build" in message


# --- invocations in processes


def test_a_warm_environment_is_used_again(service, client):
    cold = service.counts.get("cold_starts", 0)
    make(client, "warm")
    first, second = call(client, name="warm"), call(client, name="warm")
    assert first["pid"] == second["pid"]
    assert second["calls"] == 2
    assert service.counts["cold_starts"] == cold + 1


def test_the_last_environment_that_was_used_is_the_next(client):
    make(client, "stack", Timeout=60)
    with ThreadPoolExecutor(3) as pool:
        [*pool.map(lambda _: call(client, name="stack"), range(30))]
    assert len({call(client, name="stack")["pid"] for _ in range(5)}) == 1


def test_many_calls_at_once_get_environments_of_their_own_and_all_are_answered(client):
    make(client, "many")
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda i: call(client, name="many", i=i), range(100))]
    assert [answer["event"]["i"] for answer in answers] == [*range(100)]
    assert 1 < len({answer["pid"] for answer in answers}) <= 4


def test_an_environment_has_the_variables_of_lambda(client):
    make(client, "named", MemorySize=256, Environment={"Variables": {"MINE": "1"}})
    seen = call(client, "environ", name="named")
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "named"
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert seen["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/named"
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "us-east-1"
    assert seen["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{HERE}"
    assert seen["AWS_ENDPOINT_URL_S3"] == "http://s3.here"
    assert (seen["MINE"], seen["cwd"]) == ("1", seen["LAMBDA_TASK_ROOT"])
    assert seen["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    assert Path(seen["TMPDIR"]).is_dir()


def test_an_environment_sees_the_zip_and_boto3_and_nothing_else_of_this_interpreter(client):
    make(client, "bare", code=zipped(m=CODE, numpy=""))
    assert "/code/" in call(client, "find", name="bare", module="numpy")
    assert "boto3" in call(client, "find", name="bare", module="boto3")
    assert call(client, "find", name="bare", module="pytest")[1]["errorType"] == "ModuleNotFoundError"
    with LambdaService(isolated=False) as service:
        make(connect(service), code=zipped(m=CODE, numpy=""))
        assert "/code/" in call(connect(service), "find", module="numpy")
        assert "pytest" in call(connect(service), "find", module="pytest")


def test_a_handler_knows_its_deadline_its_arn_and_its_client(client):
    assert 15_000 < call(client, "left") <= 20_000
    assert call(client)["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:f"
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    assert read(client.invoke(FunctionName="f", Payload=b'{"do": "client"}', ClientContext=context)) == {"a": "b"}


def test_the_tail_of_the_log_comes_when_asked_for(client):
    answer = client.invoke(FunctionName="f", Payload=b'{"do": "fail"}', LogType="Tail")
    log = base64.b64decode(answer["LogResult"]).decode()
    assert f"START RequestId: {answer['ResponseMetadata']['RequestId']}" in log
    assert "told {'do': 'fail'}" in log
    assert "[ERROR] KeyError" in log
    assert "Max Memory Used:" in log
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "LogResult" not in client.invoke(FunctionName="f")


def test_the_tail_is_of_four_kilobytes(client):
    answer = client.invoke(FunctionName="f", Payload=json.dumps({"x": "x" * 10_000}), LogType="Tail")
    assert len(base64.b64decode(answer["LogResult"])) == 4096


def test_an_exception_is_answered_with_its_trace_and_the_environment_lives(client):
    pid = call(client)["pid"]
    error, value = call(client, "fail")
    assert error == "Unhandled"
    assert (value["errorType"], value["errorMessage"]) == ("KeyError", "'no deal'")
    assert "in fail" in "".join(value["stackTrace"])
    assert call(client)["pid"] == pid


@pytest.mark.parametrize(
    ("do", "status", "says"),
    [
        ("leave", 3, "Error: Runtime exited with error: exit status 3"),
        ("leave", 0, "Error: Runtime exited without providing a reason"),
        ("die", 0, "Error: Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_process_that_ends_fails_its_call_and_no_other(client, do, status, says):
    error, value = call(client, do, status=status)
    assert error == "Unhandled"
    assert value["errorType"] == "Runtime.ExitError"
    assert value["errorMessage"].startswith("RequestId: ")
    assert value["errorMessage"].endswith(says)
    assert call(client)["calls"] == 1


def test_what_a_process_has_started_ends_with_it(client):
    child = call(client, "child")
    call(client, "leave", status=1)
    assert gone(child)


def test_a_call_over_its_time_is_killed(client):
    error, value = call(client, "hang", name="hasty")
    assert error == "Unhandled"
    assert value["errorType"] == "Sandbox.Timedout"
    assert value["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")
    assert call(client, name="hasty")["calls"] == 1


@pytest.mark.parametrize(("do", "poll_s"), [("hog", 0.05), ("gulp", 60)])
def test_a_call_over_its_memory_is_killed_also_when_it_has_let_go_of_it(do, poll_s):
    with LambdaService(memory_poll_s=poll_s) as service:
        make(connect(service), Timeout=20)
        error, value = call(connect(service), do)
    assert error == "Unhandled"
    assert value["errorType"] == "Runtime.OutOfMemory"
    assert value["errorMessage"].endswith("Runtime exited with error: signal: killed")


def test_a_child_that_takes_too_much_memory_is_killed_and_its_parent_hears_of_it():
    with LambdaService() as service:
        make(connect(service), Timeout=20)
        assert call(connect(service), "feed") == -9
        assert call(connect(service))["pid"]


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        ("import nothing_here", "Runtime.ImportModuleError", "No module named 'nothing_here'"),
        ("x = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'm'"),
        ("def f(:", "Runtime.UserCodeSyntaxError", "Syntax error in module 'm'"),
        ("1 / 0", "ZeroDivisionError", "division by zero"),
        ("import os; os._exit(4)", "Runtime.ExitError", "exit status 4"),
    ],
)
def test_a_start_that_fails_is_told_by_its_name(service, client, source, kind, says):
    name = f"broken{abs(hash(source))}"
    make(client, name, code=zipped(m=source))
    error, value = call(client, name=name)
    assert (error, value["errorType"]) == ("Unhandled", kind)
    assert says in value["errorMessage"]
    assert name not in [environment.function for environment in service.environments()]


def test_a_start_over_its_time_is_begun_again_at_the_cost_of_the_call(tmp_path):
    mark = tmp_path / "mark"
    slow = f"import os, time\nif not os.path.exists({str(mark)!r}):\n    open({str(mark)!r}, 'w'); time.sleep(60)\n"
    with LambdaService(init_s=0.5) as service:
        make(connect(service), code=zipped(m=slow + "def handler(e, c): return 'second'"))
        assert call(connect(service)) == "second"
        make(connect(service), "never", code=zipped(m="import time; time.sleep(60)"), Timeout=1)
        assert call(connect(service), name="never")[1]["errorType"] == "Sandbox.Timedout"


def test_answers_are_limited_to_six_megabytes(client):
    assert len(call(client, "large", bytes=6_291_554)) == 6_291_554  # and two quotes
    error, value = call(client, "large", bytes=6_291_555)
    assert (error, value["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert call(client)["event"] == {"do": "echo"}


def test_requests_are_limited_to_six_megabytes_and_events_to_one(client):
    def send(size, kind):
        return client.invoke(FunctionName="f", InvocationType=kind, Payload=b'"' + b"x" * (size - 2) + b'"')

    assert "FunctionError" in send(6_291_456, "RequestResponse")  # a str has no get: it came through
    assert refused(send, 6_291_457, "RequestResponse")[:2] == (413, "RequestEntityTooLargeException")
    status, code, message = refused(send, 1_048_577, "Event")
    assert (status, code) == (413, "RequestEntityTooLargeException")
    assert "limit 1048576 bytes" in message


def test_a_payload_that_is_no_json_is_refused(client):
    assert refused(client.invoke, FunctionName="f", Payload=b"{")[:2] == (400, "InvalidRequestContentException")


def test_no_payload_is_an_empty_event_and_a_dry_run_runs_nothing(service, client):
    assert read(client.invoke(FunctionName="f"))["event"] == {}
    before = service.counts["invocations"]
    assert client.invoke(FunctionName="f", InvocationType="DryRun")["StatusCode"] == 204
    assert service.counts["invocations"] == before


def test_a_version_that_there_is_not_is_not_found(client):
    assert refused(client.invoke, FunctionName="f", Qualifier="7")[:2] == (404, "ResourceNotFoundException")


# --- life and death of environments


def test_idle_environments_end():
    with LambdaService(idle_s=0.05) as service:
        make(connect(service))
        assert gone(call(connect(service))["pid"])
        until(lambda: not service.environments())


def test_frozen_environments_stop_between_calls():
    with LambdaService(freeze=True) as service:
        make(connect(service))
        pid = call(connect(service))["pid"]
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        assert call(connect(service))["pid"] == pid


def test_a_killed_environment_fails_its_call_and_takes_its_children_along(service, client, tmp_path):
    make(client, "victim", Timeout=60)
    child = call(client, "child", name="victim")
    begun = Gate(tmp_path / "begun")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, client, "say", "victim", gate=begun.path)
        pid = int(begun.heard()[0])
        (number,) = [e.number for e in service.environments() if e.pid == pid]
        service.kill_environment(number)
        error, value = answer.result()
    assert error == "Unhandled"
    assert value["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert gone(child)


@pytest.fixture
def process():
    options = ["--concurrency", "50", "--env", "GREETING=hello"]
    command = [sys.executable, "-m", "fnmap.testing.aws_lambda", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    process.service = type("Endpoint", (), {"endpoint": process.stdout.readline().split()[-1]})
    yield process
    process.kill()
    process.communicate()


def test_the_service_runs_as_a_process_of_its_own(process):
    client = connect(process.service)
    make(client)
    assert call(client, "environ")["GREETING"] == "hello"
    assert client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 50
    pid = call(client)["pid"]
    process.terminate()
    assert process.wait(10) == 0
    assert gone(pid)


def test_no_environment_outlives_a_service_that_is_killed(process):
    client = connect(process.service)
    make(client)
    folder = Path(call(client, "environ")["TMPDIR"]).parents[2]
    pids = [call(client)["pid"], call(client, "child")]
    os.kill(process.pid, signal.SIGKILL)
    assert all(gone(pid) for pid in pids)
    assert folder.name.startswith("fnmap-lambda-")
    subprocess.run(["rm", "-rf", folder], check=True)


# --- light environments: limits, and the asynchronous queue


class Desk:
    """A light handler that tests hold and release."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.go = threading.Event()

    async def hold(self, event, context):
        self.seen.append(event)
        while not self.go.is_set():
            await asyncio.sleep(0.001)
        context.environment["calls"] = context.environment.get("calls", 0) + 1
        return context.environment["calls"]

    def fail(self, event, context):
        self.seen.append(event)
        raise ValueError(event)


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.go.set()


def fan_out(client, calls: int, name="f") -> Counter[object]:
    def one(_):
        try:
            return read(client.invoke(FunctionName=name))
        except ClientError as e:
            meta = e.response["ResponseMetadata"]
            return meta["HTTPStatusCode"], e.response["Reason"], meta["HTTPHeaders"]["retry-after"]

    with ThreadPoolExecutor(calls) as pool:
        return Counter(pool.map(one, range(calls)))


def held(service, desk, client, calls, running, name="f"):
    """Send calls at once, let go when so many run and the others were refused, and count the answers."""
    watch = threading.Thread(
        target=lambda: (
            until(lambda: len(desk.seen) == running and service.counts.get("throttled") == calls - running),
            desk.go.set(),
        )
    )
    watch.start()
    answers = fan_out(client, calls, name)
    watch.join()
    return answers


def test_calls_over_the_account_are_throttled(desk):
    with LambdaService(light=desk.hold, concurrency=5) as service:
        make(connect(service))
        answers = held(service, desk, connect(service), 8, 5)
        assert answers == {1: 5, (429, "ConcurrentInvocationLimitExceeded", "1"): 3}


def test_calls_over_the_reservation_are_throttled(desk):
    with LambdaService(light=desk.hold) as service:
        make(connect(service))
        connect(service).put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=3)
        answers = held(service, desk, connect(service), 8, 3)
        assert answers == {1: 3, (429, "ReservedFunctionConcurrentInvocationLimitExceeded", "1"): 5}


def test_environments_start_no_faster_than_the_ramp(desk):
    with LambdaService(light=desk.hold, ramp=4, ramp_s=1e6) as service:
        make(connect(service))
        answers = held(service, desk, connect(service), 8, 4)
        assert answers == {1: 4, (429, "ConcurrentInvocationLimitExceeded", "1"): 4}
        assert read(connect(service).invoke(FunctionName="f")) == 2  # a warm one needs no start


def test_a_thousand_light_environments_run_at_once(desk):
    async def calls(url, count):
        async def one():
            async with http.post(url, data=b"{}", headers={"Authorization": "signed"}) as answer:
                return await answer.read()

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            return Counter(await asyncio.gather(*(one() for _ in range(count))))

    with LambdaService(light=desk.hold) as service:
        make(connect(service), Timeout=60)
        release = threading.Thread(target=lambda: (until(lambda: len(desk.seen) == 1000), desk.go.set()))
        release.start()
        url = f"{service.endpoint}/2015-03-31/functions/f/invocations"
        assert asyncio.run(calls(url, 1000)) == {b"1": 1000}
        release.join()
        assert len(service.environments()) == service.counts["peak"] == 1000


def test_an_environment_that_was_busy_when_its_function_changed_is_not_used_again(desk):
    with LambdaService(light=desk.hold) as service, ThreadPoolExecutor(1) as pool:
        client = connect(service)
        make(client)
        answer = pool.submit(lambda: read(client.invoke(FunctionName="f")))
        until(lambda: desk.seen)
        client.update_function_configuration(FunctionName="f", MemorySize=256)
        desk.go.set()
        assert answer.result() == 1
        assert read(client.invoke(FunctionName="f")) == 1


def test_a_light_handler_fails_as_a_real_one(desk):
    with LambdaService(light=desk.fail) as service:
        make(connect(service))
        error, value = read(connect(service).invoke(FunctionName="f", Payload=b'"oh"'))
        assert (error, value["errorType"], value["errorMessage"]) == ("Unhandled", "ValueError", "oh")
        assert "in fail" in "".join(value["stackTrace"])


def test_a_light_handler_runs_over_its_time(desk):
    with LambdaService(light=desk.hold) as service:
        make(connect(service), Timeout=1)
        error, value = read(connect(service).invoke(FunctionName="f"))
        assert (error, value["errorType"]) == ("Unhandled", "Sandbox.Timedout")


def test_a_light_environment_can_be_killed(desk):
    with LambdaService(light=desk.hold) as service, ThreadPoolExecutor(1) as pool:
        make(connect(service))
        answer = pool.submit(lambda: read(connect(service).invoke(FunctionName="f")))
        until(lambda: desk.seen)
        service.kill_environment(service.environments()[0].number)
        assert answer.result()[1]["errorMessage"].endswith("signal: killed")


def test_a_light_handler_is_found_by_name_and_starts_after_the_delay_of_the_cold():
    with LambdaService(light="json.dumps", cold_s=0.05) as service:  # of (event, context): fails, but is called
        make(connect(service))
        begun = time.perf_counter()
        assert read(connect(service).invoke(FunctionName="f"))[1]["errorType"] == "TypeError"
        assert time.perf_counter() - begun > 0.05


def queue(aws, name):
    sqs = other("sqs", aws)
    return sqs, sqs.create_queue(QueueName=name)["QueueUrl"], f"arn:aws:sqs:us-east-1:123456789012:{name}"


def letter(sqs, url):
    got = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10, MessageAttributeNames=["All"])["Messages"]
    assert len(got) == 1
    return got[0]


def test_a_failing_event_is_tried_three_times_and_then_told_to_both_queues(aws, desk):
    sqs, dead, dead_arn = queue(aws, "dead")
    _, told, told_arn = queue(aws, "told")
    with LambdaService(light=desk.fail, extra_env=aws, delay_scale=1e-4) as service:
        client = connect(service)
        make(client, DeadLetterConfig={"TargetArn": dead_arn})
        destination = {"OnFailure": {"Destination": told_arn}}
        client.put_function_event_invoke_config(FunctionName="f", DestinationConfig=destination)
        answer = client.invoke(FunctionName="f", InvocationType="Event", Payload=b'{"deal": 7}')
        request_id = answer["ResponseMetadata"]["RequestId"]
        record = json.loads(letter(sqs, told)["Body"])
        buried = letter(sqs, dead)
    assert desk.seen == [{"deal": 7}] * 3
    assert record["requestContext"]["requestId"] == request_id
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert (record["requestPayload"], record["responsePayload"]["errorType"]) == ({"deal": 7}, "ValueError")
    assert buried["Body"] == '{"deal": 7}'
    attributes = {name: value["StringValue"] for name, value in buried["MessageAttributes"].items()}
    assert attributes == {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": "{'deal': 7}"}


def test_a_function_that_wants_no_retry_gets_none(desk):
    with LambdaService(light=desk.fail, delay_scale=1e-4) as service:
        client = connect(service)
        make(client)
        client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0)
        client.invoke(FunctionName="f", InvocationType="Event")
        until(lambda: service.counts.get("given_up") == 1)
        assert len(desk.seen) == 1


def test_an_event_that_is_throttled_for_too_long_is_given_up(aws, desk):
    sqs, told, told_arn = queue(aws, "aged")
    with LambdaService(light=desk.hold, extra_env=aws, delay_scale=1e-3) as service:
        client = connect(service)
        make(client)
        client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
        client.put_function_event_invoke_config(
            FunctionName="f", MaximumEventAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": told_arn}}
        )
        client.invoke(FunctionName="f", InvocationType="Event")
        record = json.loads(letter(sqs, told)["Body"])
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert not desk.seen


def test_a_throttled_event_runs_once_there_is_room(desk):
    desk.go.set()
    with LambdaService(light=desk.hold, delay_scale=1e-3) as service:
        client = connect(service)
        make(client)
        client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
        client.invoke(FunctionName="f", InvocationType="Event")
        until(lambda: service.counts.get("throttled", 0) > 1)
        client.delete_function_concurrency(FunctionName="f")
        until(lambda: desk.seen)


def test_events_are_lost_and_doubled_as_the_seed_says(desk):
    desk.go.set()

    def play(seed):
        desk.seen.clear()
        with LambdaService(light=desk.hold, lose=0.2, duplicate=0.3, seed=seed) as service:
            client = connect(service)
            make(client)
            for i in range(40):
                client.invoke(FunctionName="f", InvocationType="Event", Payload=str(i))
            counts = service.counts
            until(lambda: len(desk.seen) == 40 - counts["lost"] + counts["duplicated"])
            return sorted(Counter(desk.seen).items())

    first = play(1)
    assert {times for _, times in first} == {1, 2}
    assert len(first) < 40
    assert play(1) == first != play(2)
