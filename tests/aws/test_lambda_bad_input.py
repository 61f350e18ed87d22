"""Whatever is not there or does not fit names itself, and the command that mends it, before any task starts."""

from __future__ import annotations

import json

import pytest

import fnmap
from fnmap.aws.package import code_hash
from fnmap.compute.aws_lambda import LambdaCompute
from fnmap.errors import DeployError, NoBucket, UsageError
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


def test_a_bucket_that_is_gone(make_aws, s3_server, monkeypatch):
    aws = make_aws()
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        proxy.answers.extend([(404, b"<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>")] * 3)
        with fnmap.Session(on=LambdaCompute(workers=1)) as session, pytest.raises(NoBucket, match=aws.bucket):
            session.map(abs, [1], name="nowhere")
    assert not aws.service.counts.get("invocations")


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
