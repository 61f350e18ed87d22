"""The doctor: what is not well is named, with what mends it, before any work starts."""

from __future__ import annotations

import dataclasses
import platform

import pytest

pytest.importorskip("boto3", reason="needs fnmap[aws]")

from fnmap.aws import doctor
from fnmap.aws.deploy import apply, plan, plan_destroy, settled
from fnmap.aws.troubles import explain
from fnmap.errors import UsageError

PYTHON = ".".join(platform.python_version_tuple()[:2])


def deploy(aws, stub, **said):
    apply(aws, plan(aws, settled(aws, "fnmap", {"python": PYTHON, **said}), stub))


def findings(name="fnmap", region=None):
    return list(doctor.examine(region, name))


def about(found, *subjects):
    return [(one.state, one.said, one.mend) for one in found if one.about in subjects]


@pytest.fixture(scope="module")
def cloud():
    """moto for all but Lambda, and the local Lambda service, whose environments answer as the handler does."""
    servers = pytest.importorskip("fnmap.testing.servers")
    from fnmap.testing.aws_lambda import LambdaService

    def answer(event, context):
        if "ping" not in event or answer.ill:
            raise ValueError("no ping")
        return {"pong": {}} if answer.polite else {}

    with servers.moto_server() as moto, LambdaService(extra_env=moto.env, light=answer) as service:
        yield {**service.env, **moto.env, "AWS_ENDPOINT_URL_LAMBDA": service.endpoint}, answer


@pytest.fixture
def well(cloud, nowhere, monkeypatch, stub):
    """A deployment that is well."""
    from fnmap.aws.clients import Clients

    env, answer = cloud
    answer.ill, answer.polite = False, True
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    aws = Clients()
    deploy(aws, stub)
    yield aws
    apply(aws, plan_destroy(aws, "fnmap"))


def configure(aws, **variables):
    said = aws["lambda"].get_function_configuration(FunctionName="fnmap")["Environment"]["Variables"]
    aws["lambda"].update_function_configuration(FunctionName="fnmap", Environment={"Variables": {**said, **variables}})


def test_what_is_well_is_well(well):
    found = findings()
    assert [one for one in found if one.state != "ok"] == []
    subjects = "credentials, region, bucket, function, packages, concurrency, dead letters, round trip"
    assert ", ".join(one.about for one in found) == subjects
    assert not well["s3"].list_objects_v2(Bucket="fnmap-123456789012-us-east-1").get("KeyCount")


def test_deploying_into_the_local_service_is_idempotent(well, stub):
    assert {change.action for change in plan(well, settled(well, "fnmap", {}), stub)} == {"keep"}


def test_code_that_is_not_ours_is_named(well):
    configure(well, FNMAP_CODE="0123456789abcdef")
    ((state, said, mend),) = about(findings(), "function")
    assert (state, mend) == ("problem", "fnmap deploy")
    assert "(0123456789abcdef)" in said


def test_sizes_that_are_well_are_a_line_and_what_is_not_is_named(well, stub):
    deploy(well, stub, sizes=(2, 3))
    assert about(findings(), "sizes") == [("ok", "fnmap-2x, fnmap-3x", "")]
    assert {change.action for change in plan(well, settled(well, "fnmap", {}), stub)} == {"keep"}
    well["lambda"].update_function_configuration(FunctionName="fnmap-2x", MemorySize=2000)
    well["lambda"].delete_function(FunctionName="fnmap-3x")
    assert about(findings(), "sizes") == [
        ("problem", "fnmap-2x has 2,000 MB and not 2 times 1,769", "fnmap deploy"),
        ("problem", "fnmap-3x is not there", "fnmap deploy"),
    ]
    deploy(well, stub)
    well["lambda"].update_function_configuration(FunctionName="fnmap-2x", Timeout=9, Environment={"Variables": {}})
    configure(well, MINE="1")
    assert [said for _, said, _ in about(findings(), "sizes")] == [
        "fnmap-2x differs from fnmap in Timeout, FNMAP_CODE, FNMAP_METRICS, FNMAP_PACKAGES, FNMAP_SECRET, FNMAP_SIZES,"
        " FNMAP_STORE",
        "fnmap-3x",
    ]


def test_another_python_is_named(well, monkeypatch):
    monkeypatch.setattr(doctor, "_python", lambda: "python3.99")
    assert about(findings(), "function")[0][2].startswith("fnmap deploy --python 3.99, or run python3.")


def test_packages_of_other_versions_are_named_with_what_mends_it(well, monkeypatch):
    monkeypatch.setattr(doctor, "_installed", {"numpy": "2.4.6", "scipy": "1.15", "pandas": "3.0"}.get)
    configure(well, FNMAP_PACKAGES="numpy=2.2.6 scipy=1.15 pandas=2.3")
    problem, note = about(findings(), "packages")
    assert problem[:2] == ("problem", "pandas 2.3 there, 3.0 here")
    assert problem[2].startswith("pip install pandas==2.3, or fnmap deploy")
    assert note[:2] == ("note", "numpy 2.2.6 there, 2.4.6 here")


def test_dead_letters_are_counted(well):
    url = well["sqs"].get_queue_url(QueueName="fnmap-dead")["QueueUrl"]
    well["sqs"].send_message(QueueUrl=url, MessageBody="x")
    ((state, said, mend),) = about(findings(), "dead letters")
    assert (state, said) == ("problem", "1 wait")
    assert mend == f"aws sqs receive-message --queue-url {url}"


def test_a_function_that_fails_is_told_with_its_error_and_where_its_log_is(well, cloud):
    cloud[1].ill = True
    ((state, said, mend),) = about(findings(), "round trip")
    assert (state, said) == ("problem", "it failed: ValueError: no ping")
    assert mend == "aws logs tail /aws/lambda/fnmap --since 10m"


def test_a_function_that_is_not_ours_answers_no_pong(well, cloud):
    cloud[1].polite = False
    assert about(findings(), "round trip") == [("problem", "it answers b'{}', which is no pong", "fnmap deploy")]


def test_what_is_not_deployed_is_named_with_the_command_that_does(aws):
    found = findings("prices")
    assert about(found, "bucket")[0][1:] == (
        "there is no bucket prices-123456789012-us-east-1",
        "fnmap deploy --name prices",
    )
    assert about(found, "function")[0][1:] == (
        "prices is not deployed in us-east-1",
        "fnmap deploy --name prices",
    )
    assert not about(found, "round trip")


def test_a_deployment_in_another_region_is_found(aws, stub):
    deploy(aws, stub)
    found = findings(region="eu-west-1")
    assert about(found, "bucket")[0][2] == "fnmap deploy; or set AWS_REGION: it is deployed in us-east-1"


def test_no_credentials_end_it_with_what_mends_it(nowhere):
    (found,) = findings(region="us-east-1")
    assert (found.state, found.about, found.said) == ("problem", "credentials", "there are no AWS credentials here")
    assert found.mend.startswith("run `aws configure`")


def test_no_region_ends_it_with_what_mends_it(nowhere, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    found = findings()[-1]
    assert dataclasses.astuple(found) == (
        "problem",
        "region",
        "no AWS region is set",
        "set AWS_REGION, or give --region",
    )


def test_an_endpoint_that_is_no_url_is_named(nowhere, monkeypatch):
    from fnmap.aws.clients import Clients

    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(UsageError, match=r"must be a URL .*'localhost:9000'"):
        Clients("us-east-1")["lambda"]


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_is_where_others_look_for_it(variable, nowhere, monkeypatch):
    from fnmap.aws.clients import Clients

    monkeypatch.setenv(variable, "eu-west-3")
    assert Clients().region == "eu-west-3"


@pytest.mark.parametrize(
    ("code", "says", "mend"),
    [
        ("AccessDenied", "no permission for lambda:InvokeFunction", "fnmap deploy --policy"),
        ("ExpiredToken", "have expired", "aws sso login"),
        ("InvalidClientTokenId", "does not know these credentials", "aws configure"),
        ("SomethingElse", "is not authorized", "fnmap doctor"),
    ],
)
def test_every_refusal_ends_with_what_mends_it(code, says, mend):
    from botocore.exceptions import ClientError

    message = "User: x is not authorized to perform: lambda:InvokeFunction on resource: y"
    found = explain(ClientError({"Error": {"Code": code, "Message": message}}, "Invoke"))
    assert says in found[0]
    assert mend in found[1]
