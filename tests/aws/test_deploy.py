"""Deploying into an account: what is shown is done, once; and all of it can be taken away again."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

import pytest

pytest.importorskip("boto3", reason="needs fnmap[aws]")

from fnmap.aws import function, policies
from fnmap.aws.deploy import apply, keep_secret, left_out, plan, plan_destroy, settled
from fnmap.aws.deployment import LOG_DAYS, Deployment, _packages
from fnmap.errors import DeployError, UsageError

SIZES = {1: "fnmap", 2: "fnmap-2x", 4: "fnmap-4x"}
LOGS = [f"/aws/lambda/{name}" for name in SIZES.values()]
BUCKET, ROLE = "fnmap-123456789012-us-east-1", "fnmap-us-east-1"


def deploy(aws, stub, name="fnmap", **said):
    """Deploy; what was changed."""
    changes = plan(aws, settled(aws, name, said), stub)
    apply(aws, changes)
    return changes


def actions(changes):
    return [change.action for change in changes]


def details(changes):
    return [line for change in changes for line in change.details]


def variables(aws, name="fnmap"):
    return aws["lambda"].get_function_configuration(FunctionName=name)["Environment"]["Variables"]


def test_at_first_all_is_made_and_then_there_is_nothing_to_do(aws, stub):
    assert actions(deploy(aws, stub)) == ["create"] * 6
    assert actions(deploy(aws, stub)) == ["keep"] * 6


def test_what_is_made_is_as_its_clients_expect_it(aws, stub):
    deploy(aws, stub, metrics=True, concurrency=50, tags={"team": "cat"})
    found = aws["lambda"].get_function(FunctionName="fnmap")
    assert found["Configuration"]["Handler"] == "fnmap.compute.aws_handler.handle"
    assert found["Concurrency"]["ReservedConcurrentExecutions"] == 50
    assert found["Tags"] == {"fnmap:deployment": "fnmap", "team": "cat"}
    said = variables(aws)
    assert (said["FNMAP_STORE"], said["FNMAP_METRICS"]) == (f"s3://{BUCKET}", "1")
    assert len(bytes.fromhex(said["FNMAP_SECRET"])) == 32
    asynchronous = aws["lambda"].get_function_event_invoke_config(FunctionName="fnmap")
    assert asynchronous["MaximumRetryAttempts"] == 0
    assert asynchronous["DestinationConfig"]["OnFailure"]["Destination"].endswith(":fnmap-dead")


def test_sizes_are_functions_that_differ_in_memory_only(aws, stub):
    assert actions(deploy(aws, stub, sizes=(2, 4), memory_mb=2048, tags={"team": "cat"})) == ["create"] * 12
    assert actions(deploy(aws, stub)) == ["keep"] * 12  # what is not said stays
    of = {times: aws["lambda"].get_function(FunctionName=name) for times, name in SIZES.items()}
    own = {"FunctionName", "FunctionArn", "MemorySize", "LastModified", "RevisionId", "Version", "LoggingConfig"}
    rest = [{k: v for k, v in one["Configuration"].items() if k not in own} for one in of.values()]
    assert rest[0] == rest[1] == rest[2]
    assert rest[0]["Environment"]["Variables"]["FNMAP_SIZES"] == "1 2 4"
    assert [one["Configuration"]["MemorySize"] for one in of.values()] == [2048, 4096, 8192]
    assert [one["Tags"] for one in of.values()] == [{"fnmap:deployment": "fnmap", "team": "cat"}] * 3
    for name in SIZES.values():
        asynchronous = aws["lambda"].get_function_event_invoke_config(FunctionName=name)
        assert asynchronous["MaximumRetryAttempts"] == 0
        assert asynchronous["DestinationConfig"]["OnFailure"]["Destination"].endswith(":fnmap-dead")
    kept = aws["logs"].describe_log_groups()["logGroups"]
    assert {group["logGroupName"]: group["retentionInDays"] for group in kept} == dict.fromkeys(LOGS, 30)


def test_sizes_grow_with_the_memory_of_the_first(aws, stub):
    deploy(aws, stub, sizes=(2,))
    assert details(deploy(aws, stub, memory_mb=3008)) == ["MemorySize: 3538 -> 6016", "MemorySize: 1769 -> 3008"]


def test_a_size_that_is_not_wanted_any_more_goes_with_its_logs_and_only_it(aws, stub):
    deploy(aws, stub, sizes=(2, 4))
    deploy(aws, stub, "fnmap-two", sizes=(2,))
    changes = deploy(aws, stub, sizes=(4,))
    assert [(c.action, c.resource.name) for c in changes if c.action == "delete"] == [
        ("delete", "/aws/lambda/fnmap-2x"),
        ("delete", "fnmap-2x"),
    ]
    assert details(changes)[-1] == "Environment.Variables.FNMAP_SIZES: 1 2 4 -> 1 4"
    assert actions(deploy(aws, stub)) == ["keep"] * 9
    assert actions(deploy(aws, stub, "fnmap-two")) == ["keep"] * 9
    assert actions(deploy(aws, stub, sizes=())).count("delete") == 2


def test_a_size_that_a_broken_deployment_left_is_found(aws, stub):
    changes = plan(aws, settled(aws, "fnmap", {"sizes": (2,)}), stub)
    apply(aws, changes[:-2])  # all but the function that would tell of it
    assert actions(deploy(aws, stub, sizes=())) == [*["keep"] * 3, "change", *["create"] * 2, *["delete"] * 2]


def test_destroy_takes_all_sizes_and_leaves_those_of_another(aws, stub):
    deploy(aws, stub, sizes=(2, 5), memory_mb=2048)
    deploy(aws, stub, "fnmap-two", sizes=(2,))
    apply(aws, plan_destroy(aws, "fnmap"))
    assert plan_destroy(aws, "fnmap") == []
    assert actions(deploy(aws, stub, "fnmap-two")) == ["keep"] * 9


def test_a_plan_changes_nothing(aws, stub):
    plan(aws, settled(aws, "fnmap", {}), stub)
    assert aws["s3"].list_buckets()["Buckets"] == []


def test_a_change_is_shown_from_what_to_what(aws, stub):
    deploy(aws, stub)
    changes = deploy(aws, stub, memory_mb=3008, log_days=7)
    assert details(changes) == ["RetentionInDays: 30 -> 7", "MemorySize: 1769 -> 3008"]
    assert actions(deploy(aws, stub)) == ["keep"] * 6  # what is not said stays


def test_the_secret_is_made_once_and_never_shown(aws, stub):
    deploy(aws, stub)
    secret = variables(aws)["FNMAP_SECRET"]
    deploy(aws, stub, memory_mb=512)
    assert variables(aws)["FNMAP_SECRET"] == secret
    aws["lambda"].update_function_configuration(FunctionName="fnmap", Environment={"Variables": {}})
    shown = details(plan(aws, settled(aws, "fnmap", {}), stub))
    assert "Environment.Variables.FNMAP_SECRET: (secret) -> (secret)" in shown
    assert not [line for line in shown if secret in line]


def test_other_code_is_deployed_again_and_only_that(aws, stub, tmp_path):
    deploy(aws, stub)
    other = replace(stub, path=tmp_path / "other.zip", sha256="")
    other.path.write_bytes(stub.path.read_bytes() + b"\0")
    other = replace(other, sha256=sha256(other.path.read_bytes()).hexdigest())
    assert [line.partition(":")[0] for line in details(deploy(aws, other))] == ["Code.Sha256"]
    assert actions(deploy(aws, other)) == ["keep"] * 6


def test_what_others_broke_is_mended(aws, stub):
    deploy(aws, stub)
    aws["s3"].delete_public_access_block(Bucket=BUCKET)
    aws["s3"].delete_bucket_lifecycle(Bucket=BUCKET)
    wide = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [wide]})
    aws["iam"].put_role_policy(RoleName=ROLE, PolicyName="fnmap", PolicyDocument=document)
    aws["lambda"].delete_function_event_invoke_config(FunctionName="fnmap")
    assert actions(deploy(aws, stub)) == ["change", "keep", "keep", "change", "keep", "create"]
    assert actions(deploy(aws, stub)) == ["keep"] * 6


def test_what_others_added_stays(aws, stub):
    deploy(aws, stub)
    mine = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 1}}
    aws["s3"].put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [mine]})
    said = variables(aws)
    aws["lambda"].update_function_configuration(FunctionName="fnmap", Environment={"Variables": {**said, "MINE": "1"}})
    deploy(aws, stub, timeout_s=60)
    rules = aws["s3"].get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [rule["ID"] for rule in rules] == ["mine", "fnmap-tmp", "fnmap-uploads"]
    assert variables(aws)["MINE"] == "1"


def test_a_zip_too_large_for_a_request_goes_through_the_bucket(aws, stub, monkeypatch):
    monkeypatch.setattr(function, "DIRECT_BYTES", 0)
    deploy(aws, stub)
    aws["s3"].put_object(Bucket=BUCKET, Key="deploy/old.zip", Body=b"old")
    aws["lambda"].delete_function(FunctionName="fnmap")
    deploy(aws, stub)
    keys = [one["Key"] for one in aws["s3"].list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == [f"deploy/{stub.sha256}.zip"]
    assert actions(deploy(aws, stub)) == ["keep"] * 6


def test_destroy_leaves_nothing(aws, stub):
    deploy(aws, stub)
    aws["s3"].put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        aws["s3"].put_object(Bucket=BUCKET, Key="run/x", Body=body)
    aws["s3"].delete_object(Bucket=BUCKET, Key="run/x")
    aws["s3"].put_object(Bucket=BUCKET, Key="run/y", Body=b"y")
    changes = plan_destroy(aws, "fnmap")
    assert actions(changes) == ["delete"] * 6
    assert details(changes) == ["objects in it: 1"]
    apply(aws, changes)
    assert plan_destroy(aws, "fnmap") == []
    assert aws["s3"].list_buckets()["Buckets"] == []


def test_destroy_leaves_the_deployment_whose_name_begins_alike(aws, stub):
    deploy(aws, stub)
    deploy(aws, stub, "fnmap-two")
    aws["sqs"].create_queue(QueueName="fnmap-run-7", tags={"fnmap:deployment": "fnmap"})
    changes = plan_destroy(aws, "fnmap")
    apply(aws, changes)
    assert "fnmap-run-7" in [change.resource.name for change in changes]
    assert actions(deploy(aws, stub, "fnmap-two")) == ["keep"] * 6


def test_data_that_are_kept_are_trusted_by_the_next_deployment(aws, stub):
    deploy(aws, stub)
    aws["s3"].put_object(Bucket=BUCKET, Key="run/x", Body=b"x")
    secret = variables(aws)["FNMAP_SECRET"]
    kept = keep_secret(aws, "fnmap")
    assert kept.stat().st_mode & 0o777 == 0o600
    apply(aws, plan_destroy(aws, "fnmap", keep_data=True))
    assert aws["s3"].list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
    assert actions(deploy(aws, stub)) == ["keep", *["create"] * 5]
    assert variables(aws)["FNMAP_SECRET"] == secret


def test_packages_that_would_go_are_named(aws, stub):
    deploy(aws, replace(stub, versions={"scipy": "1.15.0", "stub": "1.0"}))
    assert left_out(aws, "fnmap", stub) == ["scipy==1.15.0"]


def test_a_role_that_is_not_known_everywhere_yet_is_waited_for(account):
    from botocore.exceptions import ClientError

    said = {"Code": "InvalidParameterValueException", "Message": "The role defined for the function cannot be assumed"}
    answers = [ClientError({"Error": said}, "CreateFunction")] * 2

    def call():
        if answers:
            raise answers.pop()
        return "made"

    assert function.patiently(call, pause_s=0) == "made"


def test_what_is_wrong_besides_the_role_is_not_waited_for(account):
    from botocore.exceptions import ClientError

    said = {"Code": "InvalidParameterValueException", "Message": "MemorySize is wrong"}

    def call():
        raise ClientError({"Error": said}, "CreateFunction")

    with pytest.raises(ClientError, match="MemorySize"):
        function.patiently(call, pause_s=0)


def test_a_bucket_of_somebody_else_is_not_touched(aws, stub, monkeypatch):
    from botocore.exceptions import ClientError

    def forbidden(**_):
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadBucket")

    monkeypatch.setattr(aws["s3"], "head_bucket", forbidden)
    with pytest.raises(DeployError, match=r"no permission for HeadBucket.*fnmap deploy --policy"):
        plan(aws, Deployment("123456789012", "us-east-1"), stub)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "My_Name"}, "name must be 2 to 35 of a-z, 0-9 and -.*'My_Name'"),
        ({"memory_mb": 64}, r"memory_mb must be in 128\.\.10240; got 64"),
        ({"timeout_s": 901}, r"timeout_s must be in 1\.\.900; got 901"),
        ({"disk_mb": 100}, r"disk_mb must be in 512\.\.10240"),
        ({"name": "fnmap-2x"}, r"name must not end as the functions of --sizes do; got 'fnmap-2x'"),
        ({"sizes": (1,)}, r"--sizes must be whole numbers of 2 or more, each once and in order; got \[1\]"),
        ({"sizes": (4, 2)}, r"in order; got \[4, 2\]"),
        ({"sizes": (2, 2)}, "each once"),
        ({"sizes": (2, 8)}, r"--sizes 8 with --memory 1769 .* 14,152 MB.* 10,240 .* --sizes up to 5, or --memory 1280"),
        ({"sizes": (100,)}, r"10,240 at most: give --sizes up to 5, or --sizes none$"),
        ({"sizes": (2,), "memory_mb": 6000}, r"10,240 at most: give --memory 5120, or --sizes none$"),
        ({"tags": {"": "x"}}, "a tag must have a name.*got ''"),
        ({"tags": {"aws:x": "1"}}, "a tag must .*AWS's own.*got 'aws:x'"),
        ({"tags": {"fnmap:deployment": "other"}}, "a tag must .*got 'fnmap:deployment'"),
        ({"log_days": 31}, rf"log_days must be one of {LOG_DAYS[0]}, .*; got 31"),
    ],
)
def test_what_cannot_be_deployed_is_refused(options, says):
    with pytest.raises(UsageError, match=says):
        Deployment("123456789012", "us-east-1", **options)


def test_an_unknown_option_lists_the_known_ones(aws):
    with pytest.raises(UsageError, match=r"no \['memory'\]; it has .*memory_mb"):
        settled(aws, "fnmap", {"memory": 512})


def test_the_packages_that_matter_most_come_first_and_the_rest_as_far_as_it_fits():
    many = {f"package{n:04}": "1.0" for n in range(500)} | {"numpy": "2.2.6"}
    text = _packages(many)
    assert text.startswith("numpy=2.2.6 package0000=1.0 ")
    assert len(text) <= 2048
    assert text.endswith("=1.0")


def test_policies_reach_each_size_and_no_other_function():
    deployment = Deployment("123456789012", "us-east-1", sizes=(2, 4))
    for policy in (policies.function(deployment), policies.user(deployment)):
        reached = {on for statement in policy["Statement"] for on in statement["Resource"]}
        functions = {on.partition(":function:")[2] for on in reached if ":function:" in on}
        groups = {on.partition(":log-group:")[2].removesuffix(":*") for on in reached if ":log-group:" in on}
        assert (functions, groups) == (set(SIZES.values()), set(LOGS))


def test_policies_reach_nothing_but_the_deployment():
    deployment = Deployment("123456789012", "us-east-1", name="prices", sizes=(2,))
    for policy in (policies.function(deployment), policies.user(deployment)):
        for statement in policy["Statement"]:
            wide = [on for on in statement["Resource"] if "prices" not in on]
            assert not wide or statement["Action"] in (["lambda:GetAccountSettings"], ["sqs:ListQueues"])
            assert statement["Effect"] == "Deny" or not [verb for verb in statement["Action"] if verb.endswith("*")]


def test_the_function_cannot_change_what_it_runs():
    policy = policies.function(Deployment("123456789012", "us-east-1"))
    denied = [s["Resource"] for s in policy["Statement"] if s["Effect"] == "Deny"]
    assert denied == [[f"arn:aws:s3:::{BUCKET}/deploy/*"]]
