"""Layers: zips that functions share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fnmap.testing.aws import code
from fnmap.testing.aws.errors import Refused, invalid
from fnmap.testing.aws.functions import Code, Fields, now
from fnmap.testing.aws.settings import UNZIPPED_BYTES, Settings

MOST = 5  # of one function


@dataclass(frozen=True)
class Layer:
    """One version of a layer."""

    name: str
    arn: str
    version: int
    code: Code
    given: Fields
    created: str

    def to_json(self) -> Fields:
        """What the lists say of it."""
        kept = {k: self.given[k] for k in ("Description", "CompatibleRuntimes", "LicenseInfo") if self.given.get(k)}
        return {"LayerVersionArn": self.arn, "Version": self.version, "CreatedDate": self.created, **kept}


class Layers:
    """Those of the account, by ARN. What functions use stays with them when it is deleted here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._there: dict[str, Layer] = {}

    async def publish(self, name: str, given: Fields) -> Fields:
        """A new version."""
        taken = await asyncio.to_thread(code.take, given.get("Content") or {}, self._settings)
        version = 1 + max((layer.version for layer in self._of(name)), default=0)
        layer = Layer(name, f"{self._arn(name)}:{version}", version, taken, given, now())
        self._there[layer.arn] = layer
        return self._whole(layer)

    def list(self) -> Fields:
        """The newest version of each."""
        newest = {layer.name: layer.to_json() for layer in self._there.values()}
        return {
            "Layers": [
                {"LayerName": name, "LayerArn": self._arn(name), "LatestMatchingVersion": version}
                for name, version in newest.items()
            ]
        }

    def versions(self, name: str) -> Fields:
        """All versions of one, the newest first."""
        return {"LayerVersions": [layer.to_json() for layer in self._of(name)[::-1]]}

    def get(self, name: str, version: str) -> Fields:
        """One version."""
        layer = self._there.get(f"{self._arn(name)}:{version}")
        if layer is None:
            raise Refused(404, "ResourceNotFoundException", "The resource you requested does not exist.")
        return self._whole(layer)

    def delete(self, name: str, version: str) -> None:
        """One version; it need not be there."""
        self._there.pop(f"{self._arn(name)}:{version}", None)

    def used(self, arns: Sequence[str]) -> tuple[Layer, ...]:
        """The layers of a function."""
        if len(arns) > MOST:
            raise invalid(f"Cannot reference more than {MOST} layers.")
        if missing := [arn for arn in arns if arn not in self._there]:
            raise invalid(f"Layer version {missing[0]} does not exist.")
        return tuple(self._there[arn] for arn in arns)

    def _arn(self, name: str) -> str:
        return self._settings.arn(name).replace(":function:", ":layer:")

    def _of(self, name: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self._there.values() if layer.name == name)

    def _whole(self, layer: Layer) -> Fields:
        content = {"CodeSha256": layer.code.sha, "CodeSize": layer.code.size}
        return {**layer.to_json(), "LayerArn": self._arn(layer.name), "Content": content}


def fits(main: Code, layers: Sequence[Layer]) -> None:
    """Refuse what is too large together."""
    if main.unzipped + sum(layer.code.unzipped for layer in layers) > UNZIPPED_BYTES:
        raise invalid(f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_BYTES} bytes.")
