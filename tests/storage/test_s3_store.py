"""The S3 store on a real S3 server."""

import pytest

from fnmap.storage.open import open_store
from fnmap.testing.stores import StoreContract


class TestS3Store(StoreContract):
    races, racers = 1, 6  # the server takes whole seconds to settle one

    @pytest.fixture
    def store(self, s3_url):
        return open_store(s3_url)
