"""Accounts to deploy into, and small packages to deploy."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make_wheel(folder: Path, name: str, files: dict[str, str], version: str = "1.0") -> str:
    """A wheel of these files; its path."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as out:
        for file, text in files.items():
            member = zipfile.ZipInfo(file)
            member.external_attr = (0o100755 if file.endswith(".sh") else 0o100644) << 16
            out.writestr(member, text)
        out.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    return str(path)


@pytest.fixture
def wheel(tmp_path) -> Callable[..., str]:
    return lambda name, files, version="1.0": make_wheel(tmp_path, name, files, version)


@pytest.fixture(scope="session")
def stub(tmp_path_factory):
    """A package of fnmap and one small module: what is deployed where its content does not matter."""
    pytest.importorskip("boto3", reason="needs fnmap[aws]")
    from fnmap.aws.package import build_package

    folder = tmp_path_factory.mktemp("stub")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        return build_package(PYTHON, requirements=[make_wheel(folder, "stub", {"stub.py": "x = 1\n"})], base=())
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def models():
    """What botocore knows of AWS, read once: each of its sessions would read it again."""
    loaders = pytest.importorskip("botocore.loaders", reason="needs fnmap[aws]")
    return loaders.create_loader()


@pytest.fixture(scope="session")
def packages(tmp_path_factory) -> Path:
    """A cache folder with the real package in it, which is built once for the processes of these tests."""
    fcntl = pytest.importorskip("fcntl")
    from fnmap.aws.package import build_package

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "packages"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, (folder / "lock").open("w") as lock:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        fcntl.flock(lock, fcntl.LOCK_EX)
        build_package(PYTHON)
    return folder


@pytest.fixture
def nowhere(monkeypatch, tmp_path, models) -> None:
    """An environment that knows nothing of AWS."""
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: models)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def account(monkeypatch, nowhere) -> Iterator[None]:
    """moto's AWS in this process: an empty account."""
    moto = pytest.importorskip("moto", reason="needs fnmap[test]")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws(config={"lambda": {"use_docker": False}}):
        yield


@pytest.fixture
def aws(account):
    from fnmap.aws.clients import Clients

    return Clients()
