"""The clients of boto3 that deploying needs, made when they are first used, and who is asking."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from fnmap.aws.troubles import told
from fnmap.errors import DeployError
from fnmap.storage.aws_profile import endpoint_said


class Clients:
    """One account and region: clients by the name of their service. Credentials are where AWS's tools look for them."""

    def __init__(self, region: str | None = None) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise DeployError(f"{error}; run `pip install 'fnmap[aws]'`") from error
        with told():
            self._session = boto3.Session(
                region_name=region or os.environ.get("AWS_REGION")
            )  # boto3 does not look there
        if self._session.region_name is None:
            raise DeployError("no AWS region is set; set AWS_REGION, or give --region")
        self._config = Config(retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=10)
        self._made: dict[str, Any] = {}

    def __getitem__(self, service: str) -> Any:
        if service not in self._made:
            endpoint_said(service)  # boto3 has no error of its own for one that is no URL
            with told():
                self._made[service] = self._session.client(service, config=self._config)
        return self._made[service]

    @property
    def region(self) -> str:
        """Where."""
        return str(self["lambda"].meta.region_name)

    @property
    def partition(self) -> str:
        """Which AWS: that of most of the world is "aws"."""
        return str(self._session.get_partition_for_region(self.region))

    @cached_property
    def who(self) -> str:
        """The ARN of whoever asks."""
        return self._identity["Arn"]

    @property
    def account(self) -> str:
        """The number of the account."""
        return self._identity["Account"]

    @cached_property
    def _identity(self) -> dict[str, str]:
        with told():
            return dict(self["sts"].get_caller_identity())
