"""Whatever is not there or does not fit names itself, and the command that mends it, before any task starts."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial, partialmethod

import numpy as np
import pytest

import fnmap
from fnmap.aws import configuration as configuration_module
from fnmap.aws.configuration import Configuration, check_packages, check_size
from fnmap.aws.package import code_hash
from fnmap.compute import aws_lambda
from fnmap.compute.aws_lambda import LambdaCompute
from fnmap.compute.aws_messages import Messages
from fnmap.compute.aws_reach import tried
from fnmap.errors import ComputeError, DeployError, NoBucket, NotPicklable, StoreBusy, UsageError
from fnmap.storage.memory import MemoryStore
from fnmap.storage.open import open_store
from fnmap.testing.proxy import FaultyProxy

PATIENCE_S = 30


@pytest.fixture
def answering(monkeypatch, s3_server):
    """AWS that gives these answers."""
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", proxy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")

        def answer(status, said):
            proxy.answers.append((status, json.dumps(said).encode()))

        yield answer


def configuration(**more):
    import sys

    variables = {
        "FNMAP_SECRET": "00" * 32,
        "FNMAP_STORE": "s3://bucket",
        "FNMAP_CODE": code_hash(),
        "FNMAP_PACKAGES": "",
    }
    return {
        "FunctionName": "fnmap", "State": "Active", "Runtime": f"python3.{sys.version_info[1]}", "MemorySize": 1769,
        "Timeout": 60, "Environment": {"Variables": variables | more.pop("variables", {})}, **more,
    }  # fmt: skip


def refused():
    with pytest.raises(DeployError) as caught:
        fnmap.Session(on="lambda")
    return str(caught.value)


def test_no_credentials(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "no AWS credentials" in refused()
    assert "`aws configure`" in refused()


def test_no_region(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "set AWS_REGION" in refused()


@pytest.mark.parametrize("service", ["LAMBDA", "S3"])
def test_an_endpoint_that_is_no_url(aws_here, service, monkeypatch):
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", "localhost:9000")
    with pytest.raises(UsageError, match=r"must be a URL .*'localhost:9000'"), fnmap.Session(on="lambda") as session:
        session.map(abs, [1], name="nowhere").result()


def test_no_function(aws_here):
    with pytest.raises(DeployError, match=r"no function 'nowhere' in us-east-1: run `fnmap deploy --name nowhere`"):
        LambdaCompute("nowhere")


def test_a_function_in_another_region(answering):
    answering(404, {"Type": "User", "Message": "Function not found: arn:aws:lambda:eu-west-1:1:function:fnmap"})
    assert "in eu-west-1: run `fnmap deploy`, or set AWS_REGION" in refused()


def test_no_permission(answering):
    answering(403, {"Message": "User: x is not authorized to perform: lambda:GetFunctionConfiguration"})
    assert "`fnmap deploy --policy`" in refused()


def test_credentials_that_have_expired(answering):
    answering(403, {"__type": "ExpiredTokenException", "message": "The security token is expired"})
    assert "`aws sso login`" in refused()


def test_no_permission_to_invoke(make_aws):
    aws = make_aws()
    compute = LambdaCompute(workers=1)

    async def post(*_):
        return (
            403,
            {"x-amzn-errortype": "AccessDeniedException"},
            b'{"Message":"lambda:InvokeFunction"}',
        )

    compute.wire.post = post
    with fnmap.Session(on=compute) as session, pytest.raises(DeployError, match=r"InvokeFunction.*--policy"):
        session.map(abs, range(3)).result()
    assert not aws.service.counts.get("invocations")


def test_a_function_that_is_not_ours(answering):
    answering(200, configuration(Environment={"Variables": {}}))
    assert "not one of fnmap's" in refused()


@pytest.mark.parametrize("variables", [{"FNMAP_SECRET": "secret"}, {"FNMAP_SIZES": "1 two"}])
def test_variables_that_others_have_changed(answering, variables):
    answering(200, configuration(variables=variables))
    assert "were changed by others" in (said := refused())
    assert "run `fnmap deploy`" in said


def test_a_function_that_has_failed(answering):
    answering(200, configuration(State="Failed", StateReason="out of addresses"))
    assert "is Failed: out of addresses; run `fnmap deploy`" in refused()


def test_a_stale_function(answering):
    answering(200, configuration(variables={"FNMAP_CODE": "0123"}))
    assert "another version of fnmap than this one: run `fnmap deploy`" in refused()


def test_another_python(answering):
    answering(200, configuration(Runtime="python3.8"))
    assert "runs Python 3.8" in (said := refused())
    assert "`fnmap deploy --python 3." in said


def test_another_numpy(answering):
    answering(200, configuration(variables={"FNMAP_PACKAGES": "numpy=0.9.0"}))
    assert "has numpy 0.9.0" in refused()


def test_a_package_that_is_missing_in_the_function(aws_here, deploy):
    import yaml

    name = deploy("bare", FNMAP_PACKAGES="cloudpickle=3.0 numpy=2.0")
    before = aws_here.service.counts.get("invocations", 0)
    mends = r"the package 'pyyaml'.*`fnmap deploy --name bare --add pyyaml=="
    with fnmap.Session(on=LambdaCompute(name, workers=1)) as session, pytest.raises(DeployError, match=mends):
        session.map(lambda x: yaml.safe_load(x) or 1, ["1"])
    assert aws_here.service.counts.get("invocations", 0) == before


@pytest.fixture
def bare(aws_here, deploy):
    """A session with a function that lacks most packages, which must not be called."""
    before = aws_here.service.counts.get("invocations", 0)
    with fnmap.Session(on=LambdaCompute(deploy("bare", FNMAP_PACKAGES="cloudpickle=3.0 numpy=2.0"))) as session:
        yield session
        assert aws_here.service.counts.get("invocations", 0) == before


def load(text):
    import yaml.nodes

    return yaml.nodes, text


class Loader:
    def __call__(self, text):
        import yaml

        return yaml, text


MISSING = r"the package 'pyyaml'.*`fnmap deploy --name bare --add pyyaml=="


@pytest.mark.parametrize("fn", [load, partial(load), Loader()])
def test_a_package_that_the_body_of_a_function_imports_is_missing(bare, fn):
    with pytest.raises(DeployError, match=MISSING):
        bare.map(fn, ["1"])


def test_a_package_that_a_stage_of_a_plan_imports_is_missing(bare):
    plan = fnmap.Plan("lacking")
    plan.map(load, plan.map(abs, range(3)))
    with pytest.raises(DeployError, match=MISSING):
        bare.run_plan(plan)


def check_imports(modules, **packages):
    check_packages(Configuration("fnmap", b"", "s3://b", "3.11", 128, 60.0, packages, ""), modules, "it")


def test_what_may_be_there_is_not_refused(tmp_path, monkeypatch):
    (tmp_path / "mine.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(configuration_module._homes(), "mine", ["my-project"])  # as pip install --editable says
    monkeypatch.setitem(configuration_module._homes(), "yaml", ["PyYAML_binary"])
    check_imports({"yaml"}, **{"pyyaml-headless": "2.0"})
    monkeypatch.setitem(configuration_module._homes(), "yaml", ["PyYAML"])
    check_imports({"boto3", "json", "nowhere_at_all", "numpy.linalg", "mine.x"}, numpy="2.0")
    with pytest.raises(DeployError, match="'pyyaml'"):
        check_imports({"yaml"}, numpy="2.0")
    check_imports({"yaml"}, **{f"package-{n}": "1.0.0" for n in range(120)})  # the function could not list them all
    check_imports({"yaml"})


def test_a_bucket_that_is_gone(make_aws, s3_server, monkeypatch):
    aws = make_aws()
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        proxy.answers.extend([(404, b"<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>")] * 3)
        with fnmap.Session(on=LambdaCompute(workers=1)) as session, pytest.raises(NoBucket, match=aws.bucket):
            session.map(abs, [1], name="nowhere")
    assert not aws.service.counts.get("invocations")


# -- a role that may not use the bucket ----------------------------------------------------------------


@pytest.fixture(scope="module")
def roles(s3_server):
    """Lambda with a function whose role may do less than we."""
    from fnmap.testing.local_aws import local_aws

    with ExitStack() as stack:
        yield cache(lambda role: stack.enter_context(local_aws(role=role, s3=s3_server)))


@pytest.fixture
def as_role(roles, tmp_path, monkeypatch):
    """Begins a session with a function of that role, none of whose tasks may run."""
    with ExitStack() as stack:

        def begin(role, **options):
            aws = roles(role)
            for name, value in aws.env.items():
                monkeypatch.setenv(name, value)
            session = stack.enter_context(fnmap.Session(on=LambdaCompute(workers=2), **options))
            return session, open_store(f"s3://{aws.bucket}").sealed_with(bytes.fromhex(aws.variables["FNMAP_SECRET"]))

        yield begin, lambda x: (tmp_path / f"ran-{x}").touch()
        assert not list(tmp_path.glob("ran-*"))


CANNOT = r"the function 'fnmap' cannot use s3://"
DENIED = CANNOT + r"{0} with its role 'fnmap': cannot {1} .*AccessDenied.*allow s3:{2}Object"
MENDS = r".*: run `fnmap deploy`, which"


@pytest.mark.parametrize(("role", "verb", "says"), [("reader", "write", "Put"), ("writer", "read", "Get")])
def test_a_role_that_may_not_use_the_bucket_is_named_before_any_task(as_role, role, verb, says):
    begin, task = as_role
    session, store = begin(role)
    with pytest.raises(DeployError, match=(DENIED + MENDS).format(store.place.bucket, verb, says)):
        session.map(task, range(3), name="denied")
    assert not list(store.list(""))


@pytest.mark.parametrize("name", [None, "denied-plan"])
def test_a_plan_is_not_begun_by_a_role_that_may_not_use_the_bucket(as_role, name):
    begin, task = as_role
    session, store = begin("nobody")
    plan = fnmap.Plan("denied")
    plan.map(task, range(3))
    with pytest.raises(DeployError, match=CANNOT):
        session.run_plan(plan, name=name)
    assert not list(store.list("part/"))


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_neither_is_a_map_of_a_large_function(as_role, size):
    (begin, task), held = as_role, os.urandom(size)
    session, _ = begin("nobody")
    with pytest.raises(DeployError, match=CANNOT):
        session.map(lambda x: task(x) or held[x], range(3)).result()


def test_nor_one_of_large_items(as_role):
    begin, task = as_role
    session, _ = begin("nobody")
    with pytest.raises(DeployError, match=CANNOT):
        session.map(lambda x: task(len(x)), [os.urandom(4 * MB)]).result()


def test_nor_a_run_that_is_taken_up(as_role):
    begin, task = as_role
    session, store = begin("nobody")
    with fnmap.Session(on="inline", store=store) as other:
        other.map(lambda x: x and task(x), [0], name="taken-up").wait()
    run = session.attach("taken-up")
    store.delete([key for key in store.list("part/") if "taken-up" in key])
    with pytest.raises(DeployError, match=CANNOT):
        session.attach("taken-up").retry()
    assert run[0] == 0


def test_another_bucket_is_named_with_the_command_that_allows_it(as_role, s3_server):
    (begin, task), bucket = as_role, s3_server.make_bucket()
    mends = r"`aws iam put-role-policy --role-name fnmap --policy-name fnmap-{0} --policy-document '.*:::{0}/\*.*'`"
    session, _ = begin("reader", store=f"s3://{bucket}")
    with pytest.raises(DeployError, match=(DENIED + ".*: run " + mends).format(bucket, "write", "Put")):
        session.map(task, range(3), name="elsewhere")


def test_a_function_is_asked_once_and_only_for_what_needs_a_store(make_aws):
    aws = make_aws()

    def asked():
        return aws.service.counts.get("invocations", 0)

    with fnmap.Session(on=LambdaCompute(workers=1)) as session:
        assert (list(session.map(abs, [-1])), asked()) == ([1], 1)
        assert (list(session.map(abs, [-2], name="first")), asked()) == ([2], 3)
        assert (list(session.map(abs, [-3], name="second")), asked()) == ([3], 4)
    assert not list(open_store(f"s3://{aws.bucket}").list("tmp/reach/"))


def test_a_store_that_fails_for_the_moment_is_no_reason_to_refuse():
    class Busy(MemoryStore):
        def get(self, key):
            raise StoreBusy("later")

    assert tried(Busy(), "a") is None


# -- too large -----------------------------------------------------------------------------------------

MB = 1 << 20


@pytest.fixture
def narrow(aws_here, deploy):
    """A function of 128 MB; nothing may be asked of it, nor put into its bucket."""
    compute = LambdaCompute(deploy("narrow", memory_mb=128), workers=1)
    before = asked(aws_here)
    with fnmap.Session(on=compute) as session:
        yield session
        assert asked(aws_here) == before


def asked(aws):
    """What the service was asked, and what is in the bucket."""
    return aws.service.counts.get("invocations", 0), sorted(open_store(f"s3://{aws.bucket}").list(""))


TOO_LARGE = (
    r"it has 136 MB, and the function 'narrow' takes 128 MB at most: run `fnmap deploy --name narrow --memory 26"
)


def test_a_closure_that_the_function_cannot_hold_is_named_before_any_task(narrow):
    table = np.zeros(130 * MB, np.uint8)

    def look(at):
        return table[at]

    with pytest.raises(NotPicklable, match=rf"fn=.*look refers to what cannot travel: {TOO_LARGE}"):
        narrow.map(look, range(3))


def test_a_closure_of_many_parts_that_the_function_cannot_hold_together_is_named(narrow):
    texts = [os.urandom(1).hex() * (40 * MB // 2) for _ in range(4)]  # 160 MB, none of which is too large
    with pytest.raises(NotPicklable, match=r"fn=.*it has 168 MB.*`fnmap deploy --name narrow --memory 321`"):
        narrow.map(lambda at: texts[at][0], range(3))


def test_an_item_that_the_function_cannot_hold_is_named_before_any_task(narrow):
    with pytest.raises(NotPicklable, match=rf"item 1, array.*cannot be sent to a worker: {TOO_LARGE}"):
        narrow.map(len, [np.zeros(3), np.zeros(130 * MB, np.uint8)])


def test_an_item_without_buffers_that_the_function_cannot_hold_is_named_too(narrow):
    with pytest.raises(NotPicklable, match=rf"item 2, b'.*cannot be sent to a worker: {TOO_LARGE}"):
        narrow.map(len, [b"", b"x", bytes(130 * MB)])


def test_what_is_too_large_for_any_function_is_told_to_be_put_into_s3():
    there = Configuration("fnmap", b"", "s3://b", "3.11", 10_240, 60.0, {}, "")
    check_size(there, 5 << 30)
    with pytest.raises(NotPicklable, match=r"takes 5,120 MB at most: put it into S3 and let each task read"):
        check_size(there, (5 << 30) + 1)


def test_items_that_the_function_could_not_hold_together_are_sent_one_by_one(aws_here, deploy):
    items = [np.full(3 * MB, n, np.uint8) for n in range(3)]
    compute = LambdaCompute(deploy("narrow", memory_mb=128), workers=1)
    compute.there = replace(compute.there, memory_mb=8)  # they have 9 MB
    with fnmap.Session(on=compute) as session:
        assert list(session.map(lambda item: int(item[0]), items, chunksize=1)) == [0, 1, 2]


def test_a_message_that_lambda_does_not_take_is_named(make_aws, monkeypatch):
    aws = make_aws()
    monkeypatch.setattr(aws_lambda, "PAYLOAD_BYTES", 1 << 40)
    event = partialmethod(Messages.event, most_bytes=1 << 40)  # what is larger is stored
    monkeypatch.setattr(Messages, "event", event)
    refused = pytest.raises(ComputeError, match=r"6291456.*chunksize=")
    with fnmap.Session(on=LambdaCompute(workers=1)) as session, refused:
        session.map(len, [bytes(5 * MB)]).result()
    assert not aws.service.counts.get("cold_starts")


# -- in the wrong region -------------------------------------------------------------------------------


def test_a_bucket_in_another_region_is_named_before_any_task(make_aws, s3_server, monkeypatch):
    aws = make_aws()
    with FaultyProxy(s3_server.endpoint, rate=0, region="eu-west-1") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        said = rf"not in the region us-east-1: `aws s3api get-bucket-location --bucket {aws.bucket}` tells"
        with fnmap.Session(on=LambdaCompute(workers=1)) as session, pytest.raises(NoBucket, match=said):
            session.map(abs, [1], name="elsewhere")
    assert not aws.service.counts.get("invocations")


def test_a_store_in_another_region_is_named_and_what_is_said_mends_it(bucket, s3_server, monkeypatch, local):
    with FaultyProxy(s3_server.endpoint, rate=0, region="eu-west-1") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        for verb in (
            lambda store: store.put("a", b""),
            lambda store: store.create("a", b""),
            lambda store: store.get("a"),
            lambda store: list(store.list("")),
            lambda store: store.delete(["a"]),
        ):
            with pytest.raises(NoBucket, match=r"not in the region us-east-1: `aws s3api get-bucket-location"):
                verb(open_store(f"s3://{bucket}"))
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        with fnmap.Session(on="inline", store=f"s3://{bucket}") as session:
            assert list(session.map(abs, [-1], name="here")) == [1]


def test_no_right_to_make_a_queue(make_aws, s3_server):
    make_aws(queues=False)
    with pytest.MonkeyPatch.context() as patch, FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        patch.setenv("AWS_ENDPOINT_URL_SQS", proxy.endpoint)
        proxy.answers.append((403, b'{"__type":"AccessDenied","message":"sqs:CreateQueue"}'))
        mends = r'sqs:CreateQueue.*--policy.*mode="direct" needs none'
        session = fnmap.Session(on=LambdaCompute(workers=1, mode="detached"))
        with session, pytest.raises(DeployError, match=mends):
            session.map(abs, [1], name="queueless").result()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "workers"),
        ({"mode": "fast"}, "mode"),
        ({"workers": True}, "workers"),
        ({"patience_s": -1}, "pat"),
    ],
)
def test_options_that_are_wrong(options, said):
    with pytest.raises(UsageError, match=said):
        LambdaCompute(**options)
