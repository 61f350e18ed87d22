"""The same records as a CloudFormation template, for those who must review what is made before it is made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fnmap.aws.deploy import wanted
from fnmap.aws.deployment import Deployment, Resource
from fnmap.aws.package import Package

ANYWHERE = Deployment(account="${AWS::AccountId}", region="${AWS::Region}", partition="${AWS::Partition}")
"""The place of a deployment that is filled in by CloudFormation."""

PARAMETERS = {
    "CodeBucket": {"Type": "String", "Description": "A bucket of this region in which the package is"},
    "CodeKey": {"Type": "String", "Default": "fnmap.zip", "Description": "Its key there"},
    "Secret": {
        "Type": "String",
        "NoEcho": True,
        "AllowedPattern": "[0-9a-f]{64}",
        "Description": "By which client and function know each other: openssl rand -hex 32",
    },
}
_KEEPS = {"AWS::S3::Bucket": "Retain", "AWS::SQS::Queue": "Delete", "AWS::Logs::LogGroup": "Delete"}
"""What becomes of what is kept there when the stack goes: results stay."""
HOW = """\
# fnmap deploy --package fnmap.zip
# aws s3 cp fnmap.zip s3://SOME-BUCKET/fnmap.zip
# aws cloudformation deploy --stack-name {name} --template-file THIS --capabilities CAPABILITY_NAMED_IAM \\
#     --parameter-overrides CodeBucket=SOME-BUCKET Secret=$(openssl rand -hex 32)
"""


def template(deployment: Deployment, package: Package, form: Literal["yaml", "json"] = "yaml") -> str:
    """The text of the template. `deployment` should be of ANYWHERE."""
    found = wanted(deployment, package, "")
    said = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"fnmap: the function {deployment.name} with its bucket, role, queue and logs",
        "Parameters": PARAMETERS,
        "Resources": {resource.id: _resource(resource) for resource in found},
    }
    if form == "json":
        return json.dumps(said, indent=2) + "\n"
    return HOW.format(name=deployment.name) + "\n".join(_yaml(said)) + "\n"


def _resource(resource: Resource) -> dict[str, Any]:
    properties = {key: _substituted(value) for key, value in resource.properties.items()}
    if "Tags" in properties:
        properties["Tags"] = [{"Key": k, "Value": v} for k, v in properties["Tags"].items()]
    if resource.kind == "AWS::Lambda::Function":
        properties["Code"] = {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}}
        properties["Environment"]["Variables"]["FNMAP_SECRET"] = {"Ref": "Secret"}
    said: dict[str, Any] = {"Type": resource.kind, "Properties": properties}
    keeps = _KEEPS.get(resource.kind)
    if keeps is not None:
        said |= {"DeletionPolicy": keeps, "UpdateReplacePolicy": keeps}
    return said | ({"DependsOn": list(resource.after)} if resource.after else {})


def _substituted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _substituted(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_substituted(part) for part in value]
    return {"Fn::Sub": value} if isinstance(value, str) and "${AWS::" in value else value


def _yaml(value: Any) -> Iterator[str]:
    """The lines of a value as YAML: scalars as JSON writes them, which YAML reads alike."""
    pairs = value.items() if isinstance(value, Mapping) else ((None, part) for part in value)
    for key, part in pairs:
        head = "-" if key is None else f"{key if key.isalnum() else json.dumps(key)}:"
        if not isinstance(part, (Mapping, list)) or not part:
            yield f"{head} {json.dumps(part)}"
        elif key is None:
            first, *rest = _yaml(part)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield head
            yield from (f"  {line}" for line in _yaml(part))
