"""The S3 store on a real S3 server."""

import pytest

from fnmap.storage.s3 import S3Store
from fnmap.testing.stores import StoreContract


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, bucket):
        return S3Store(bucket, "some/where")
