"""The zips of functions: fetched, measured, unpacked once by content."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import io
import os
import zipfile
from collections.abc import Mapping
from typing import Any

from fnmap.testing.aws.errors import Refused, invalid
from fnmap.testing.aws.functions import Code, Fields
from fnmap.testing.aws.settings import UNZIPPED_BYTES, Settings


def client(service: str, settings: Settings) -> Any:
    """A boto3 client of the S3 or SQS that the environments see."""
    seen: Mapping[str, str] = {**os.environ, **settings.extra_env}
    endpoint = seen.get(f"AWS_ENDPOINT_URL_{service.upper()}") or seen.get("AWS_ENDPOINT_URL")
    boto3 = importlib.import_module("boto3")
    return boto3.session.Session().client(
        service,
        endpoint_url=endpoint,
        region_name=settings.region,
        aws_access_key_id=seen.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=seen.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=seen.get("AWS_SESSION_TOKEN"),
    )


def take(where: Fields, settings: Settings) -> Code:
    """The code that a request brings or names, unpacked (but for a light service, which does not look into it)."""
    body = _body(where, settings)
    digest = hashlib.sha256(body).digest()
    sha, folder = base64.b64encode(digest).decode(), digest.hex()
    code = Code(sha, len(body), settings.root / "code" / folder, settings.root / "zips" / folder)
    if not code.zip.exists():
        unpack(body, code, light=settings.light is not None)
    return code


def _body(where: Fields, settings: Settings) -> bytes:
    if "ZipFile" in where:
        try:
            return base64.b64decode(where["ZipFile"], validate=True)
        except binascii.Error:
            raise invalid("Could not unzip uploaded file. Please check your file, then try to upload again.") from None
    if "S3Bucket" not in where or "S3Key" not in where:
        raise invalid("Please provide a source for function code.")
    return _from_s3(where, settings)


def _from_s3(where: Fields, settings: Settings) -> bytes:
    version = {"VersionId": where["S3ObjectVersion"]} if where.get("S3ObjectVersion") else {}
    errors = importlib.import_module("botocore.exceptions")
    try:
        answer = client("s3", settings).get_object(Bucket=where["S3Bucket"], Key=where["S3Key"], **version)
        return bytes(answer["Body"].read())
    except errors.ClientError as e:
        error = e.response["Error"]
        raise invalid(
            f"Error occurred while GetObject. S3 Error Code: {error['Code']}. S3 Error Message: {error['Message']}"
        ) from None
    except errors.BotoCoreError as e:
        raise Refused(500, "ServiceException", f"The S3 of the local Lambda service cannot be reached: {e}") from e


def unpack(body: bytes, code: Code, *, light: bool) -> None:
    """Unpack a zip, with the permissions that it gives its files, and keep it for those who ask for it."""
    if not light:
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                _extract(archive, code)
        except zipfile.BadZipFile:
            raise invalid("Could not unzip uploaded file. Please check your file, then try to upload again.") from None
    code.zip.parent.mkdir(parents=True, exist_ok=True)
    aside = code.zip.with_name(f"{code.zip.name}.new")
    aside.write_bytes(body)
    aside.rename(code.zip)  # it is there only when all is


def _extract(archive: zipfile.ZipFile, code: Code) -> None:
    files = archive.infolist()
    if not files:
        raise invalid("Uploaded file must be a non-empty zip")
    if sum(file.file_size for file in files) > UNZIPPED_BYTES:
        raise invalid(f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")
    for file in files:
        path = archive.extract(file, code.root)
        if mode := file.external_attr >> 16 & 0o777:
            os.chmod(path, mode)  # noqa: PTH101 a str
