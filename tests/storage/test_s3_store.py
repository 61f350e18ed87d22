"""The S3 store on a real S3 server: what every store does, and what only this one has."""

from __future__ import annotations

import os
import pickle

import pytest

from fnmap.errors import (
    MissingKey,
    NoAccess,
    NoBucket,
    NoCredentials,
    NotAuthentic,
    StoreBusy,
    StoreError,
    StoreReadOnly,
    UsageError,
)
from fnmap.storage.base import GetRange, Parallel, Url
from fnmap.storage.open import open_store
from fnmap.storage.s3 import SECRET, S3Store
from fnmap.storage.s3_client import Place, client
from fnmap.testing.proxy import FaultyProxy
from fnmap.testing.stores import StoreContract

KEY = bytes(range(32))


@pytest.fixture
def store(s3_url):
    return open_store(s3_url)


@pytest.fixture
def sealed(store):
    return store.sealed_with(KEY)


class TestS3Store(StoreContract):
    races, racers = 1, 6  # the server takes whole seconds to settle one

    @pytest.fixture
    def store(self, s3_url):
        return open_store(s3_url)


class TestSealedS3Store(StoreContract):
    races, racers = 1, 2

    @pytest.fixture
    def store(self, s3_url, monkeypatch):
        monkeypatch.setenv(SECRET, KEY.hex())
        return open_store(s3_url).sealed_with(KEY)


def raw(store):
    """boto3's client of the store's server, and the place of its object `a` there."""
    import boto3

    return boto3.client("s3"), {"Bucket": store.place.bucket, "Key": store.place.path("a")}


# -- what it is able to do -------------------------------------------------------------------------------


def test_it_reads_ranges_in_parallel_and_by_address(store):
    assert isinstance(store, GetRange)
    assert isinstance(store, Parallel)
    assert isinstance(store, Url)
    assert store.url("a/b") == f"s3://{store.place.bucket}/{store.place.prefix}/a/b"


def test_some_of_an_object_can_be_read(store):
    store.put("a", bytes(range(100)))
    assert (store.get_range("a", 10, 5), store.size("a")) == (bytes(range(10, 15)), 100)
    with pytest.raises(MissingKey, match=r"no object '.*/nope'"):
        store.get_range("nope", 0, 1)
    with pytest.raises(MissingKey, match=r"no object '.*/nope'"):
        store.size("nope")


def test_a_large_object_goes_and_comes_in_parts(store):
    body = bytes(range(251)) * 100_000  # 25 MB
    store.put("a", memoryview(body))
    boto, place = raw(store)
    assert boto.head_object(**place)["ETag"].endswith('-5"')
    assert store.get("a") == body
    assert store.create("a", b"late") is False


def test_more_than_a_thousand_objects_are_listed_and_deleted(store):
    from concurrent.futures import ThreadPoolExecutor

    keys = [f"d/{n:04}" for n in range(1100)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    assert sorted(store.list("d/")) == keys
    store.delete(keys)
    assert list(store.list("")) == []


def test_encryption_is_asked_for(s3_server, store):
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        plain = S3Store(store.place.bucket, "plain", endpoint=proxy.endpoint, sse="AES256")
        plain.put("a", b"x")
        kms = Place("b", "", proxy.endpoint, "us-east-1", "aws:kms:arn:aws:kms:us-east-1:1:key/2", 30.0)
        config = dict(client(kms, "small").config)
    boto, place = raw(plain)
    assert boto.head_object(**place)["ServerSideEncryption"] == "AES256"
    assert config["server_side_encryption"] == "aws:kms"
    assert config["sse_kms_key_id"] == "arn:aws:kms:us-east-1:1:key/2"


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        (("Not_A_Bucket",), {}, "bucket .* 'Not_A_Bucket'"),
        (("",), {}, "bucket"),
        (("bucket", "a//b"), {}, "prefix .* 'a//b'"),
        (("bucket",), {"sse": "rot13"}, "sse .* 'rot13'"),
        (("bucket",), {"endpoint": "localhost:9000"}, "must be a URL .* 'localhost:9000'"),
    ],
)
def test_a_bad_place_is_refused(arguments, options, named):
    with pytest.raises(UsageError, match=named):
        S3Store(*arguments, **options)


@pytest.mark.parametrize("secret", ["text", b"short", None])
def test_a_bad_secret_is_refused(store, secret):
    with pytest.raises(UsageError, match="secret"):
        store.sealed_with(secret)


# -- credentials, secrets --------------------------------------------------------------------------------


def test_a_pickle_has_neither_credentials_nor_secret(s3_server, sealed):
    sealed.put("a", b"x")  # so that it has all that it ever has
    sent = pickle.dumps(sealed)
    env = s3_server.env
    for secret in (
        KEY,
        KEY.hex().encode(),
        *(env[f"AWS_{n}"].encode() for n in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")),
    ):
        assert secret not in sent
    assert KEY.hex() not in repr(sealed)


def test_a_copy_takes_the_secret_of_its_process_or_refuses(sealed, monkeypatch):
    sealed.put("a", b"x")
    copy = pickle.loads(pickle.dumps(sealed))
    for verb in (lambda: copy.get("a"), lambda: copy.put("a", b"y"), lambda: copy.create("b", b"y")):
        with pytest.raises(NotAuthentic, match="FNMAP_SECRET"):
            verb()
    monkeypatch.setenv(SECRET, KEY.hex())
    assert copy.get("a") == b"x"


def test_an_object_that_another_wrote_is_not_authentic(store, sealed):
    sealed.put("a", b"mine")
    boto, place = raw(store)
    boto.put_object(**place, Body=b"theirs")
    with pytest.raises(NotAuthentic, match=r"'a' .* has no seal"):
        sealed.get("a")
    store.put("a", b"theirs, with a checksum")
    with pytest.raises(NotAuthentic, match=r"'a' .* has no seal"):
        sealed.get("a")


def test_a_seal_is_for_one_body_and_one_key(store, sealed):
    sealed.put("a", b"mine")
    sealed.put("b", b"other")
    boto, place = raw(store)
    head = boto.head_object(**place)["Metadata"]
    other = boto.head_object(Bucket=place["Bucket"], Key=store.place.path("b"))["Metadata"]
    boto.put_object(**place, Body=b"other", Metadata=other)  # copied from another key
    with pytest.raises(NotAuthentic, match="does not fit its seal"):
        sealed.get("a")
    boto.put_object(**place, Body=b"evil", Metadata={"fnmap-mac": head["fnmap-mac"]})
    with pytest.raises(NotAuthentic, match="does not fit its seal"):
        sealed.get("a")
    with pytest.raises(NotAuthentic, match="does not fit its seal"):
        sealed.get_range("a", 0, 2)


def test_another_secret_fits_nothing(store, sealed):
    sealed.put("a", b"x")
    with pytest.raises(NotAuthentic, match="or the secret is another"):
        store.sealed_with(os.urandom(32)).get("a")
    with pytest.raises(NotAuthentic, match="this store has no secret"):
        store.get("a")


def test_an_object_that_was_damaged_where_it_lies_is_noticed(store):
    store.put("a", b"x" * 10)
    boto, place = raw(store)
    boto.put_object(**place, Body=b"x" * 9 + b"y", Metadata=boto.head_object(**place)["Metadata"])
    hasty = S3Store(store.place.bucket, store.place.prefix, tries=1)
    with pytest.raises(StoreBusy, match="does not fit its checksum"):
        hasty.get("a")


def test_what_has_no_checksum_is_read_where_no_seal_is_asked_for(store):
    boto, place = raw(store)
    boto.put_object(**place, Body=b"by hand")
    assert store.get("a") == b"by hand"


# -- what can be wrong -----------------------------------------------------------------------------------


def test_s3_checks_each_body_and_the_signature_covers_it_where_no_tls_does(aws_environment):
    def config(endpoint):
        place = Place("bucket", "", endpoint, "eu-west-1", None, 30.0)
        made = client(place, "small").config
        return made["checksum_algorithm"].lower(), str(made["unsigned_payload"]).lower()

    assert config(None) == config("https://s3.example") == ("crc64nvme", "true")
    assert config("http://localhost:1") == ("crc64nvme", "false")


def test_the_checksum_is_one_that_s3_and_the_client_know(monkeypatch, aws_environment):
    place = Place("bucket", "", "https://s3.example", "eu-west-2", None, 30.0)
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "MD5")
    with pytest.raises(UsageError, match="must be CRC64NVME, as it is if not set, or SHA256; got 'MD5'"):
        client(place, "small")
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "sha256")
    assert client(place, "small").config["checksum_algorithm"].lower() == "sha256"


def test_a_missing_bucket_names_itself_and_how_it_is_made(aws_environment):
    store = S3Store("no-such-bucket")
    for read in (lambda: store.get("a"), lambda: store.get_range("a", 0, 1)):
        with pytest.raises(NoBucket, match=r"no-such-bucket.*`aws s3 mb s3://no-such-bucket`, or `fnmap deploy`"):
            read()


def test_no_credentials_are_named_before_anything_is_asked(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(NoCredentials, match=r"AWS_ACCESS_KEY_ID.*`aws configure`.*`fnmap doctor`"):
        S3Store("bucket", region="us-east-1").put("a", b"")


def test_a_profile_is_used_where_the_environment_has_no_keys(store, s3_server, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    lines = [f"{n.lower()} = {s3_server.env[n]}" for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    (tmp_path / "credentials").write_text("\n".join(["[mine]", *lines, ""]))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    store.put("a", b"x")
    assert store.get("a") == b"x"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NoCredentials, match=r"nobody.*`aws configure list`"):
        store.get("a")


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_credentials_that_are_not_known_are_named(store, monkeypatch, wrong):
    monkeypatch.setenv(wrong, "wrong")
    for verb in (
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: list(store.list("")),
        lambda: store.delete("a" for _ in "a"),
    ):
        with pytest.raises(NoCredentials, match="`aws sts get-caller-identity`"):
            verb()


def said(code, rest=""):
    return f"<Error><Code>{code}</Code><Message>why</Message>{rest}</Error>".encode()


REDIRECT = said("PermanentRedirect", "<Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint>")
MALFORMED = said("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")


@pytest.mark.parametrize(
    ("status", "body", "error", "named"),
    [
        (400, MALFORMED, NoBucket, "not in the region us-east-1: set AWS_REGION=eu-west-1"),
        (301, REDIRECT, NoBucket, r"not in the region us-east-1: `aws s3api get-bucket-location --bucket"),
        (
            403,
            said("AccessDenied"),
            NoAccess,
            "AccessDenied: why; allow s3:GetObject and s3:ListBucket .*`fnmap doctor`",
        ),
        (400, said("ExpiredToken"), NoCredentials, "ExpiredToken: why; renew them"),
        (403, said("RequestTimeTooSkewed"), StoreError, "set the clock"),
        (405, said("MethodNotAllowed"), StoreError, "`fnmap doctor`"),
    ],
)
def test_what_the_server_answers_is_explained(s3_server, store, status, body, error, named):
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        behind = S3Store(store.place.bucket, endpoint=proxy.endpoint, tries=1)
        proxy.answers.append((status, body))
        with pytest.raises(error, match=named):
            behind.get("a")
        assert proxy.requests.total() == 1


def test_who_may_not_write_is_told_which_permission_it_takes(s3_server, store):
    with FaultyProxy(s3_server.endpoint, rate=0) as proxy:
        behind = S3Store(store.place.bucket, endpoint=proxy.endpoint)
        for verb in (lambda: behind.put("a", b""), lambda: behind.create("a", b"")):
            proxy.answers.append((403, said("AccessDenied")))
            with pytest.raises(StoreReadOnly, match=r"cannot write 'a' .*allow s3:PutObject on s3://"):
                verb()


def test_a_server_that_is_not_there_is_tried_some_times(aws_environment):
    store = S3Store("bucket", endpoint="http://127.0.0.1:1", tries=2)
    with pytest.raises(StoreBusy, match="cannot read 'a' in s3://bucket"):
        store.get("a")
