"""The command: each of its verbs, as they are typed."""

from __future__ import annotations

import json

import pytest

import fnmap
from fnmap.cli import main

WIDTH = 80


@pytest.fixture
def type_(capsys, monkeypatch):
    """Type a command; its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))

    def run(line):
        code = main(line.split())
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def cloud(account, stub, monkeypatch):
    """An account, and small packages."""
    from fnmap.aws import package

    monkeypatch.setattr(package, "build_package", lambda *_, **__: stub)


def test_deploy_shows_its_plan_does_it_and_then_has_nothing_to_do(cloud, type_):
    code, said = type_("deploy --dry-run")
    assert code == 0
    assert "create  bucket       fnmap-123456789012-us-east-1" in said
    assert said.endswith("nothing was done: it is a dry run\n")
    assert type_("deploy")[1].endswith("next: fnmap doctor\n")
    assert type_("deploy")[1].endswith("nothing to do\n")
    assert "MemorySize: 1769 -> 3008" in type_("deploy --memory 3008 --tag team=cat")[1]


def test_sizes_are_shown_before_they_are_made(cloud, type_):
    said = type_("deploy --sizes 4,2 --dry-run")[1]
    assert "create  function     fnmap-2x" in said
    assert said.index("fnmap-4x") < said.index("create  function     fnmap\n")
    type_("deploy --sizes 2,4")
    assert type_("deploy")[1].endswith("nothing to do\n")
    assert "delete  function     fnmap-4x" in type_("deploy --sizes 2 --dry-run")[1]
    assert "delete  function     fnmap-2x" in type_("destroy --dry-run")[1]
    assert type_("deploy --sizes none")[1].count("delete function") == 2
    assert json.loads(type_("deploy --template json --sizes 2")[1])["Resources"]["Function2x"]


def test_a_size_that_lambda_does_not_have_is_refused_with_what_to_do(cloud, type_):
    code, said = type_("deploy --sizes 2,8")
    assert code == 1
    assert said.startswith("fnmap: --sizes 8 with --memory 1769 comes to 14,152 MB, and Lambda gives a function 10,240")
    assert said.endswith(": give --sizes up to 5, or --memory 1280, or --sizes none\n")
    with pytest.raises(SystemExit, match="2"):
        main(["deploy", "--sizes", "large"])


def test_no_line_is_wider_than_the_terminal(cloud, type_):
    lines = [line for command in ("deploy", "doctor", "destroy --dry-run") for line in type_(command)[1].splitlines()]
    assert max(map(len, lines)) <= WIDTH


def test_a_redeployment_that_forgets_its_requirements_is_refused(cloud, type_, monkeypatch, stub):
    from dataclasses import replace

    from fnmap.aws import package

    with monkeypatch.context() as patch:
        rich = replace(stub, versions={**stub.versions, "scipy": "1.15.0"})
        patch.setattr(package, "build_package", lambda *_, **__: rich)
        type_("deploy")
    code, said = type_("deploy")
    assert code == 1
    assert "fnmap: the function has scipy==1.15.0, which this deployment would leave out; give --requirements" in said
    assert type_("deploy --requirements /dev/null")[0] == 0


def test_the_package_can_be_had(cloud, type_, stub, tmp_path):
    type_(f"deploy --dry-run --package {tmp_path}/fnmap.zip")
    assert (tmp_path / "fnmap.zip").read_bytes() == stub.path.read_bytes()
    code, said = type_(f"deploy --dry-run --package {tmp_path}/none/fnmap.zip")
    assert (code, said[:16], "none/fnmap.zip: No such file" in said) == (1, "fnmap: --package", True)


def test_policy_prints_what_an_administrator_grants(cloud, type_):
    for whose, verb in (("", "lambda:InvokeFunction"), (" function", "logs:PutLogEvents")):
        said = json.loads(type_("deploy --policy" + whose)[1])
        assert verb in [action for statement in said["Statement"] for action in statement["Action"]]


def test_a_template_needs_no_account(nowhere, stub, type_, monkeypatch):
    from fnmap.aws import package

    monkeypatch.setattr(package, "build_package", lambda *_, **__: stub)
    code, said = type_("deploy --template json --name prices --memory 512")
    assert code == 0
    assert json.loads(said)["Resources"]["Function"]["Properties"]["MemorySize"] == 512


def test_destroy_wants_somebody_to_agree(cloud, type_, monkeypatch):
    type_("deploy")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, said = type_("destroy")
    assert code == 1
    assert "give --yes" in said
    assert type_("destroy --yes")[0] == 0
    assert type_("destroy --yes")[1].endswith("nothing to delete\n")


def test_destroy_says_where_the_secret_of_what_stays_is(cloud, type_, tmp_path):
    type_("deploy")
    said = type_("destroy --yes --keep-data")[1]
    assert "delete  bucket" not in said
    assert "its secret is kept in" in said


def test_doctor_ends_with_one_where_there_are_problems(cloud, type_):
    code, said = type_("doctor")
    assert code == 1
    assert "problem  function      fnmap is not deployed in us-east-1 -> fnmap deploy\n" in said
    assert said.splitlines()[-1].endswith("problems")


def test_without_credentials_nothing_starts(nowhere, type_):
    for command in ("deploy", "destroy --yes", "doctor"):
        code, said = type_(f"{command} --region us-east-1")
        assert code == 1
        assert "there are no AWS credentials here" in said
        assert "Traceback" not in said


def test_runs_are_listed_attached_to_and_collected(type_, tmp_path):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        session.map(abs, range(-3, 0), name="good", chunksize=1).wait()
        session.map(lambda x: 1 // x, range(2), name="bad", errors="return", chunksize=1).wait()
    code, said = type_(f"runs --store {tmp_path}")
    assert code == 0
    assert [line.split()[:5] for line in said.splitlines()[1:]] == [
        ["bad", "done", "1", "of", "2"],
        ["good", "done", "3", "of", "3"],
    ]
    assert type_(f"attach good --store {tmp_path}") == (0, "good: done, 3 of 3 done, 0 failed\n")
    code, said = type_(f"attach bad --store {tmp_path}")
    assert code == 1
    assert "1 of 2 done, 1 failed" in said
    assert "ZeroDivisionError: integer" in said
    assert "2 runs of 5 parts would be deleted\n" in type_(f"gc 0s --store {tmp_path} --dry-run")[1]
    assert "2 runs of 5 parts deleted\n" in type_(f"gc 0s --store {tmp_path}")[1]
    assert type_(f"runs --store {tmp_path}")[1] == "no named runs\n"


def test_a_run_that_is_not_there_is_one_line(type_, tmp_path):
    code, said = type_(f"attach nothing --store {tmp_path}")
    assert code == 1
    assert said.startswith("fnmap: no run named 'nothing'")


def test_a_tag_is_a_pair(type_):
    with pytest.raises(SystemExit, match="2"):
        main(["deploy", "--tag", "team"])
