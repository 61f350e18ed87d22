"""Nothing is unpickled whose seal was not checked, on either side; and no secret leaves where it belongs."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import fnmap
from fnmap.aws import envelope
from fnmap.aws.configuration import Configuration
from fnmap.aws.signing import Credentials, credentials
from fnmap.compute.aws_handler import Environment
from fnmap.compute.aws_lambda import LambdaCompute
from fnmap.compute.aws_reach import REACH
from fnmap.errors import FnmapError, NotAuthentic
from fnmap.storage.open import open_store
from fnmap.testing.local_aws import boto3_client

PATIENCE_S = 30
SECRET, OTHER = bytes(range(32)), bytes(32)


class Bomb:
    """Tells by a file that it was unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


class Context:
    function_name, memory_limit_in_mb = "fnmap", "1769"

    def get_remaining_time_in_millis(self):
        return 60_000


@pytest.fixture
def bomb(tmp_path):
    bomb = Bomb(tmp_path / "went off")
    yield pickle.dumps(bomb)
    assert not Path(bomb.path).exists(), "something was unpickled"


def square(x):
    return x * x


def overwrite(aws, key, body, metadata=None):
    boto3_client("s3", aws.env).put_object(Bucket=aws.bucket, Key=key, Body=body, Metadata=metadata or {})


def keys(aws, prefix=""):
    return sorted(open_store(f"s3://{aws.bucket}").list(prefix))


# -- at the function -----------------------------------------------------------------------------------


def events(body):
    return {
        "no seal": {"fnmap": base64.b64encode(body).decode()},
        "a seal of another secret": json.loads(envelope.sealed(OTHER, envelope.CALL, body)),
        "the seal of an answer": json.loads(envelope.sealed(SECRET, envelope.answers("r/0.1#1"), body)),
        "no text": {"fnmap": 7, "seal": 8},
        "no event of ours": {"Records": []},
    }


@pytest.mark.parametrize("kind", events(b""))
def test_the_function_refuses_an_event_that_the_client_has_not_sealed(kind, bomb):
    environment = Environment({"FNMAP_SECRET": SECRET.hex()}, in_process=True)
    event = events(envelope.packed(("tag", None, None, None), bomb))[kind]
    with pytest.raises(NotAuthentic):
        environment.handle(event, Context())


@pytest.mark.parametrize("kind", events(b""))
def test_the_function_tries_no_store_that_the_client_has_not_sealed(kind, bomb):
    environment = Environment({"FNMAP_SECRET": SECRET.hex()}, in_process=True)
    body = envelope.packed("tag", bomb)
    sealed_for_a_call = json.loads(envelope.sealed(SECRET, envelope.CALL, body))
    for event in (events(body)[kind], sealed_for_a_call):
        with pytest.raises(NotAuthentic):
            environment.handle({REACH: event}, Context())


def test_a_function_without_a_secret_tries_no_store(bomb):
    event = json.loads(envelope.sealed(b"", envelope.REACH, envelope.packed("tag", bomb)))
    with pytest.raises(NotAuthentic, match="fnmap deploy"):
        Environment({}, in_process=True).handle({REACH: event}, Context())


def test_a_function_without_a_secret_takes_nothing(bomb):
    event = json.loads(envelope.sealed(b"", envelope.CALL, envelope.packed(("tag", None, None, None), bomb)))
    with pytest.raises(NotAuthentic, match="fnmap deploy"):
        Environment({}, in_process=True).handle(event, Context())


def test_a_client_of_another_deployment_is_told_what_to_do(aws_here, monkeypatch):
    compute = LambdaCompute(workers=1)
    object.__setattr__(compute.messages.there, "secret", OTHER)
    with fnmap.Session(on=compute) as session, pytest.raises(NotAuthentic, match="fnmap deploy"):
        session.map(square, [1]).result()


@pytest.mark.parametrize("what", ["tmp/job/", "tmp/sent/", "shared"])
def test_what_the_function_reads_in_the_bucket_must_be_the_clients(make_aws, what, bomb, monkeypatch):
    aws = make_aws(light=False)
    big = {"tmp/job/": os.urandom(60_000), "shared": np.ones(1 << 20)}.get(what)
    item = os.urandom(2_000_000) if what == "tmp/sent/" else 1
    monkeypatch.setattr("fnmap.compute.aws_messages.EVENT_BYTES", 100_000)
    monkeypatch.setattr("fnmap.compute.aws_messages.Messages.event.__defaults__", (None, 100_000))
    compute = LambdaCompute(workers=1)
    post = compute.wire.post

    async def tampered(*arguments):
        for key in keys(aws, "tmp/"):
            if what in key or (what == "shared" and not key.startswith(("tmp/job", "tmp/sent"))):
                overwrite(aws, key, bomb)
        return await post(*arguments)

    compute.wire.post = tampered
    with (
        fnmap.Session(on=compute) as session,
        pytest.raises(FnmapError, match=r"NotAuthentic|seal"),
    ):
        session.map(lambda x: len((x, big)), [item]).result()


# -- at the client -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["no seal", "a seal of another secret", "the answer to another call", "nonsense"])
def test_the_client_refuses_an_answer_that_the_function_has_not_sealed_for_this_call(make_aws, kind, bomb):
    aws = make_aws()
    compute = LambdaCompute(workers=1)
    secret = bytes.fromhex(aws.variables["FNMAP_SECRET"])
    body = envelope.packed(("report", None, ()), bomb)
    forged = {
        "no seal": json.dumps({"fnmap": base64.b64encode(body).decode()}).encode(),
        "a seal of another secret": envelope.sealed(OTHER, envelope.answers("x"), body),
        "the answer to another call": envelope.sealed(secret, envelope.answers("r1-0/0.1"), body),
        "nonsense": b'"hello"',
    }[kind]

    async def post(*_):
        return 200, {}, forged

    compute.wire.post = post
    with fnmap.Session(on=compute) as session, pytest.raises(NotAuthentic):
        session.map(square, [1]).result()


def test_an_answer_cannot_be_replayed_to_the_same_call_made_again(make_aws):
    make_aws()
    compute = LambdaCompute(workers=1)
    post, heard = compute.wire.post, []

    async def replay(*arguments):
        heard.append(await post(*arguments))
        return heard[0]

    compute.wire.post = replay
    with fnmap.Session(on=compute) as session:
        assert session.submit(square, 2).result() == 4
        with pytest.raises(NotAuthentic):
            session.submit(square, 3).result()


def test_a_forged_report_in_the_queue_is_left_out(make_aws, bomb, caplog):
    aws = make_aws()
    compute = LambdaCompute(workers=1, mode="detached")
    sqs, post = boto3_client("sqs", aws.env), compute.wire.post

    async def forge(path, body, headers, timeout_s, service=None):
        if service is None:
            for tag in compute.detached._out:
                forged = envelope.sealed(OTHER, envelope.answers(tag), envelope.packed(("report", None, ()), bomb))
                sqs.send_message(
                    QueueUrl=compute.detached.queue, MessageBody=json.dumps({"id": tag} | json.loads(forged))
                )
            sqs.send_message(QueueUrl=compute.detached.queue, MessageBody="nonsense")
        return await post(path, body, headers, timeout_s, service)

    compute.wire.post = forge
    with fnmap.Session(on=compute) as session:
        assert list(session.map(square, [3], name="forged")) == [9]
    assert "is left out" in caplog.text


def test_a_part_that_somebody_else_wrote_is_no_result(make_aws, bomb):
    aws = make_aws()
    with fnmap.Session(on="lambda", workers=1) as session:
        assert list(session.map(square, range(4), name="overwritten")) == [0, 1, 4, 9]
    (key,) = [key for key in keys(aws, "part/") if "overwritten" in key][:1]
    overwrite(aws, key, bomb)
    with fnmap.Session(on="lambda", workers=1) as session:
        run = session.attach("overwritten")
        assert (run.status.state, run.status.done < 4) == ("interrupted", True)


def test_a_plan_that_somebody_else_wrote_is_not_attached_to(make_aws, bomb):
    aws = make_aws()
    with fnmap.Session(on="lambda", workers=1) as session:
        session.map(square, range(2), name="usurped").result()
    overwrite(aws, "run/usurped/plan", bomb)
    with fnmap.Session(on="lambda", workers=1) as session, pytest.raises(NotAuthentic):
        session.attach("usurped")


def test_an_answer_in_the_bucket_that_somebody_else_wrote_is_refused(make_aws, bomb, monkeypatch):
    aws = make_aws()
    monkeypatch.setattr("fnmap.compute.aws_handler.ANSWER_BYTES", 10)
    compute = LambdaCompute(workers=1)
    fetched = compute.messages.fetched

    def tampered(head):
        overwrite(aws, head[1], bomb)
        return fetched(head)

    compute.messages.fetched = tampered
    with fnmap.Session(on=compute) as session, pytest.raises(NotAuthentic):
        session.map(square, [1]).result()


# -- secrets -------------------------------------------------------------------------------------------


def forms(secret: bytes) -> list[bytes]:
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret).rstrip(b"=")]


def test_no_secret_is_in_what_is_sent_kept_logged_or_shown(make_aws, caplog, capfd):
    aws = make_aws()
    caplog.set_level(logging.DEBUG)  # from here on: before, the test itself deploys, with the secret
    secrets = [*forms(bytes.fromhex(aws.variables["FNMAP_SECRET"])), *forms(b"testsecret")]
    sent: list[bytes] = []
    table = np.ones(1 << 18)
    for mode in ("direct", "detached"):
        compute = LambdaCompute(workers=2, mode=mode)
        post = compute.wire.post

        async def overheard(path, body, headers, *more, post=post):
            answer = await post(path, body, headers, *more)
            sent.extend([body, repr(headers).encode(), answer[2], repr(answer[1]).encode()])
            return answer

        compute.wire.post = overheard
        with fnmap.Session(on=compute) as session:
            assert len(list(session.map(lambda x: (x, table[0]), range(4), name=f"secrets-{mode}"))) == 4
            with pytest.raises(ZeroDivisionError) as caught:
                session.map(lambda x: 1 / x, [0]).result()
            shown = [repr(o) for o in (compute, session, compute.there, session.store, compute.messages, caught.value)]
            shown += [str(caught.value.__notes__), repr(pickle.dumps(session.store)), repr(credentials()())]
    s3 = boto3_client("s3", aws.env)
    found = [s3.get_object(Bucket=aws.bucket, Key=key) for key in keys(aws)]
    sent += [one["Body"].read() + repr(one["Metadata"]).encode() for one in found]
    sent += [text.encode() for text in (*shown, caplog.text, *capfd.readouterr(), *aws.service.logs("fnmap"))]
    opened = [base64.b64decode(json.loads(one)["fnmap"]) for one in sent if one.startswith(b'{"fnmap"')]
    assert len(found) > 3
    assert len(opened) > 3
    assert not [secret for secret in secrets for one in sent + opened if secret in one]


@pytest.mark.parametrize(
    "holder", [Credentials("key", "secret"), Configuration("f", SECRET, "s3://b", "3.11", 1, 1.0, {}, "")]
)
def test_what_holds_a_secret_does_not_travel(holder):
    with pytest.raises(FnmapError, match="cannot be sent"):
        pickle.dumps(holder)
