"""Each kind of resource: read what exists in the words of the records, make it, change it, delete it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from fnmap.aws.clients import Clients
from fnmap.aws.deployment import Resource
from fnmap.aws.function import Events, Function
from fnmap.aws.troubles import maybe
from fnmap.errors import DeployError

Properties = Mapping[str, Any]


class Kind(Protocol):
    """How one kind of resource is dealt with."""

    def read(self, aws: Clients, name: str) -> dict[str, Any] | None:
        """What exists under that name, as far as records say anything of it; None if nothing does."""

    def write(self, aws: Clients, resource: Resource, now: Properties | None) -> None:
        """Make it as the record says; `now` is what exists."""

    def delete(self, aws: Clients, name: str) -> None:
        """Remove it."""


def as_dict(tags: Any) -> dict[str, str]:
    """Tags as most services write them, as a dict."""
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as most services write them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


class Bucket:
    """S3. Rules and tags that others have added are left as they are."""

    def read(self, aws: Clients, name: str) -> dict[str, Any] | None:
        s3 = aws["s3"]
        if not maybe(s3.head_bucket, "404", "NoSuchBucket", Bucket=name):
            return None
        none = "ServerSideEncryptionConfigurationNotFoundError"
        encryption = maybe(s3.get_bucket_encryption, none, Bucket=name)
        access = maybe(s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration", Bucket=name)
        tags = maybe(s3.get_bucket_tagging, "NoSuchTagSet", Bucket=name)
        ours = [_rule_read(rule) for rule in self._rules(s3, name) if rule.get("ID", "").startswith("fnmap-")]
        algorithms = [
            {"ServerSideEncryptionByDefault": rule["ApplyServerSideEncryptionByDefault"]}
            for rule in encryption.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
        ]
        return {
            "BucketName": name,
            "BucketEncryption": {"ServerSideEncryptionConfiguration": algorithms},
            "PublicAccessBlockConfiguration": access.get("PublicAccessBlockConfiguration", {}),
            "LifecycleConfiguration": {"Rules": ours},
            "Tags": as_dict(tags.get("TagSet")),
        }

    @staticmethod
    def _rules(s3: Any, name: str) -> list[dict[str, Any]]:
        found = maybe(s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration", Bucket=name)
        return list(found.get("Rules", ()))

    def write(self, aws: Clients, resource: Resource, now: Properties | None) -> None:
        s3, name, wanted = aws["s3"], resource.name, resource.properties
        if now is None:
            elsewhere = {"LocationConstraint": aws.region}
            s3.create_bucket(
                Bucket=name, **({} if aws.region == "us-east-1" else {"CreateBucketConfiguration": elsewhere})
            )
            s3.get_waiter("bucket_exists").wait(Bucket=name)
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=wanted["PublicAccessBlockConfiguration"])
        rules = wanted["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        applied = [{"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]} for rule in rules]
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": applied})
        others = [rule for rule in self._rules(s3, name) if not rule.get("ID", "").startswith("fnmap-")]
        ours = [_rule_written(rule) for rule in wanted["LifecycleConfiguration"]["Rules"]]
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [*others, *ours]})
        tags = {**(now or {}).get("Tags", {}), **wanted["Tags"]}
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": as_list(tags)})

    def delete(self, aws: Clients, name: str) -> None:
        """With all objects in it, and all their versions."""
        s3 = aws["s3"]
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            doomed = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            if doomed and (left := s3.delete_objects(Bucket=name, Delete={"Objects": doomed}).get("Errors")):
                raise DeployError(f"{len(left)} objects of {name} cannot be deleted: {left[0]}; run the command again")
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
            for upload in page.get("Uploads", ()):
                s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        s3.delete_bucket(Bucket=name)


def _rule_read(rule: Mapping[str, Any]) -> dict[str, Any]:
    found = {"Id": rule["ID"], "Status": rule["Status"]}
    if prefix := rule.get("Filter", {}).get("Prefix") or rule.get("Prefix"):
        found["Prefix"] = prefix
    if "Expiration" in rule:
        found["ExpirationInDays"] = rule["Expiration"].get("Days")
    if "AbortIncompleteMultipartUpload" in rule:
        found["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
    return found


def _rule_written(rule: Mapping[str, Any]) -> dict[str, Any]:
    made = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": rule["ExpirationInDays"]}
    if "AbortIncompleteMultipartUpload" in rule:
        made["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
    return made


class Queue:
    """SQS."""

    ABSENT = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")

    def read(self, aws: Clients, name: str) -> dict[str, Any] | None:
        sqs = aws["sqs"]
        url = maybe(sqs.get_queue_url, *self.ABSENT, QueueName=name).get("QueueUrl")
        found = url and maybe(sqs.get_queue_attributes, *self.ABSENT, QueueUrl=url, AttributeNames=["All"])
        if not found:
            return None
        attributes = found.get("Attributes", {})
        return {
            "QueueName": name,
            "MessageRetentionPeriod": int(attributes.get("MessageRetentionPeriod", 0)),
            "SqsManagedSseEnabled": attributes.get("SqsManagedSseEnabled") == "true",
            "Tags": sqs.list_queue_tags(QueueUrl=url).get("Tags", {}),
        }

    def write(self, aws: Clients, resource: Resource, now: Properties | None) -> None:
        sqs, wanted = aws["sqs"], resource.properties
        attributes = {
            "MessageRetentionPeriod": str(wanted["MessageRetentionPeriod"]),
            "SqsManagedSseEnabled": "true" if wanted["SqsManagedSseEnabled"] else "false",
        }
        if now is None:
            sqs.create_queue(QueueName=resource.name, Attributes=attributes, tags=dict(wanted["Tags"]))
            return
        url = sqs.get_queue_url(QueueName=resource.name)["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        sqs.tag_queue(QueueUrl=url, Tags=dict(wanted["Tags"]))

    def delete(self, aws: Clients, name: str) -> None:
        aws["sqs"].delete_queue(QueueUrl=aws["sqs"].get_queue_url(QueueName=name)["QueueUrl"])


class LogGroup:
    """CloudWatch Logs."""

    def read(self, aws: Clients, name: str) -> dict[str, Any] | None:
        logs = aws["logs"]
        groups = logs.describe_log_groups(logGroupNamePrefix=name).get("logGroups", ())
        group = next((one for one in groups if one["logGroupName"] == name), None)
        if group is None:
            return None
        tags = logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*")).get("tags", {})
        return {"LogGroupName": name, "RetentionInDays": group.get("retentionInDays"), "Tags": tags}

    def write(self, aws: Clients, resource: Resource, now: Properties | None) -> None:
        logs, wanted = aws["logs"], resource.properties
        if now is None:
            logs.create_log_group(logGroupName=resource.name, tags=dict(wanted["Tags"]))
        elif wanted["Tags"].items() - now["Tags"].items():
            groups = logs.describe_log_groups(logGroupNamePrefix=resource.name)["logGroups"]
            arn = next(one["arn"] for one in groups if one["logGroupName"] == resource.name)
            logs.tag_resource(resourceArn=arn.removesuffix(":*"), tags=dict(wanted["Tags"]))
        logs.put_retention_policy(logGroupName=resource.name, retentionInDays=wanted["RetentionInDays"])

    def delete(self, aws: Clients, name: str) -> None:
        aws["logs"].delete_log_group(logGroupName=name)


class Role:
    """IAM. Policies that others have added are left as they are, until it is deleted."""

    POLICY: ClassVar = "fnmap"

    def read(self, aws: Clients, name: str) -> dict[str, Any] | None:
        iam = aws["iam"]
        role = maybe(iam.get_role, "NoSuchEntity", RoleName=name).get("Role")
        if role is None:
            return None
        policy = maybe(iam.get_role_policy, "NoSuchEntity", RoleName=name, PolicyName=self.POLICY)
        said = [{"PolicyName": self.POLICY, "PolicyDocument": policy["PolicyDocument"]}] if policy else []
        return {
            "RoleName": name,
            "AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"],
            "Policies": said,
            "Tags": as_dict(iam.list_role_tags(RoleName=name).get("Tags")),
        }

    def write(self, aws: Clients, resource: Resource, now: Properties | None) -> None:
        iam, name, wanted = aws["iam"], resource.name, resource.properties
        trust, tags = json.dumps(wanted["AssumeRolePolicyDocument"]), as_list(wanted["Tags"])
        if now is None:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, Tags=tags)
            iam.get_waiter("role_exists").wait(RoleName=name)
        else:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust)
            iam.tag_role(RoleName=name, Tags=tags)
        for policy in wanted["Policies"]:
            document = json.dumps(policy["PolicyDocument"])
            iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)

    def delete(self, aws: Clients, name: str) -> None:
        iam = aws["iam"]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
        for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
        iam.delete_role(RoleName=name)


KINDS: dict[str, Kind] = {
    "AWS::S3::Bucket": Bucket(),
    "AWS::SQS::Queue": Queue(),
    "AWS::Logs::LogGroup": LogGroup(),
    "AWS::IAM::Role": Role(),
    "AWS::Lambda::Function": Function(),
    "AWS::Lambda::EventInvokeConfig": Events(),
}
