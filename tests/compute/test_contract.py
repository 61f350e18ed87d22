"""The computes keep the contract of the seam."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fnmap.compute.base import Compute
from fnmap.compute.inline import InlineCompute
from fnmap.compute.local import LocalCompute
from fnmap.storage.base import Store
from fnmap.testing import ClosedComputeContract, ComputeContract


class TestInline(ComputeContract):
    @pytest.fixture(scope="class")
    @classmethod
    def compute(cls) -> Compute:
        return InlineCompute()


class TestLocal(ComputeContract):
    @pytest.fixture(scope="class")
    @classmethod
    def compute(cls) -> Iterator[Compute]:
        local = LocalCompute(workers=2)
        yield local
        local.close()


class TestLithops(ComputeContract):
    @pytest.fixture(scope="class")
    @classmethod
    def compute(cls) -> Iterator[Compute]:
        pytest.importorskip("lithops", reason='Lithops is an extra: pip install "fnmap[lithops]"')
        from fnmap.compute.lithops import LithopsCompute

        compute = LithopsCompute(workers=2)
        yield compute
        compute.close()


class TestLambda(ComputeContract):
    @pytest.fixture(scope="class")
    @classmethod
    def compute(cls, local_aws) -> Iterator[Compute]:
        from fnmap.compute.aws_lambda import LambdaCompute

        with pytest.MonkeyPatch.context() as patch:
            for name, value in local_aws.env.items():
                patch.setenv(name, value)
            compute = LambdaCompute(workers=2)
            yield compute
            compute.close()

    @pytest.fixture
    def scratch(self, compute) -> Store:
        return compute.scratch()


class TestClosedInline(ClosedComputeContract):
    @pytest.fixture
    def compute(self) -> Compute:
        return InlineCompute()


class TestClosedLocal(ClosedComputeContract):
    @pytest.fixture
    def compute(self) -> Compute:
        return LocalCompute(workers=1)


class TestClosedLithops(ClosedComputeContract):
    @pytest.fixture
    def compute(self) -> Compute:
        pytest.importorskip("lithops", reason='Lithops is an extra: pip install "fnmap[lithops]"')
        from fnmap.compute.lithops import LithopsCompute

        return LithopsCompute(workers=1)


class TestClosedLambda(ClosedComputeContract):
    @pytest.fixture
    def compute(self, aws_here) -> Compute:
        from fnmap.compute.aws_lambda import LambdaCompute

        return LambdaCompute(workers=1)
