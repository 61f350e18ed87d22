"""The CloudFormation template: the same resources, without a finding of its own linter."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fnmap.aws.deploy import wanted
from fnmap.aws.deployment import Deployment
from fnmap.aws.template import ANYWHERE, template

WHOLE = replace(ANYWHERE, concurrency=20, tags={"team": "cat"}, sizes=(2, 4))


def parsed(text):
    return pytest.importorskip("yaml", reason="needs fnmap[test]").safe_load(text)


@pytest.fixture(scope="module")
def text(stub):
    return template(WHOLE, stub)


def test_the_linter_of_cloudformation_finds_nothing(text):
    linter = pytest.importorskip("cfnlint.api", reason="needs fnmap[test]")
    assert [str(found) for found in linter.lint_all(text) if not found.rule.id.startswith("I")] == []


def test_it_is_the_same_as_json(text, stub):
    there = template(WHOLE, stub, "json")
    assert parsed(text) == json.loads(there)


def test_filled_in_it_has_the_properties_that_are_deployed(stub):
    place = {"${AWS::AccountId}": "123456789012", "${AWS::Region}": "us-east-1", "${AWS::Partition}": "aws"}
    filled = template(replace(ANYWHERE, sizes=(2,)), stub, "json")
    for name, value in place.items():
        filled = filled.replace(name, value)
    said = json.loads(filled, object_hook=lambda found: found.get("Fn::Sub", found))["Resources"]
    for resource in wanted(Deployment("123456789012", "us-east-1", sizes=(2,)), stub, "x" * 64):
        there, here = said[resource.id]["Properties"], dict(resource.properties)
        if "Tags" in here:
            here["Tags"] = [{"Key": key, "Value": value} for key, value in here["Tags"].items()]
        if resource.kind == "AWS::Lambda::Function":
            there["Code"], there["Environment"]["Variables"]["FNMAP_SECRET"] = here["Code"], "x" * 64
        assert there == here


def test_the_bucket_outlives_its_stack(text):
    assert parsed(text)["Resources"]["Bucket"]["DeletionPolicy"] == "Retain"


def test_no_secret_is_in_it(text):
    said = parsed(text)
    for function in ("Function", "Function2x", "Function4x"):
        variables = said["Resources"][function]["Properties"]["Environment"]["Variables"]
        assert variables["FNMAP_SECRET"] == {"Ref": "Secret"}
    assert said["Parameters"]["Secret"]["NoEcho"] is True
