"""What the client learns of a deployed function before any work starts, and whether the two fit together."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from fnmap.aws.deployment import MEMORY_MOST_MB, PACKAGES_LIMIT, function_of
from fnmap.aws.requests import Refused, Service, function_path
from fnmap.errors import DeployError, NotPicklable, UsageError
from fnmap.format.installed import is_installed_top
from fnmap.storage.base import Store

MOST_MB = 5 << 10  # of an object that is created at once
LONGEST = 100  # bytes that a package's name and version take in a list
# what comes along, or with Lambda's runtime: boto3 and what it needs
_THERE = frozenset({"fnmap", "boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"})
_VARIANTS = frozenset({"binary", "contrib", "cpu", "gpu", "headless"})
_ALIKE = ("cloudpickle", "numpy")  # whose pickles may not load in another major version


@dataclass(frozen=True, slots=True)
class Size:
    """One of the functions of a deployment, which differ in their memory only: `times` that of the first."""

    function: str
    memory_mb: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Configuration:
    """A deployed function. `packages`: versions by distribution, as far as the deployment could say them; `sizes`: how
    many times its memory there is, itself among them; `role`: the ARN of what it runs as."""

    name: str
    secret: bytes
    store: str
    python: str
    memory_mb: int
    timeout_s: float
    packages: dict[str, str]
    code: str
    sizes: tuple[int, ...] = (1,)
    role: str = ""

    @property
    def deploy(self) -> str:
        """The command that deploys it."""
        return _deploy(self.name)

    def size(self, memory: float) -> Size:
        """The smallest that has so many times the memory, else the biggest there is."""
        times = next((times for times in self.sizes if times >= memory), self.sizes[-1])
        return Size(function_of(self.name, times), times * self.memory_mb, times)

    def more_memory(self, size: Size) -> str:
        """What to do about a call that was out of memory in a function of this size, as the end of a message."""
        biggest, ways = self.sizes[-1], []
        if size.times < biggest:
            return f"there are sizes up to {biggest * self.memory_mb:,} MB, which Retry(memory_factor=2) takes"
        if 2 * biggest * self.memory_mb <= MEMORY_MOST_MB:
            sizes = ",".join(map(str, (*self.sizes[1:], 2 * biggest)))
            ways.append(f"`{self.deploy} --sizes {sizes}` gives more to such tasks alone")
        if (more_mb := min(2 * self.memory_mb, MEMORY_MOST_MB // biggest)) > self.memory_mb:
            ways.append(f"`{self.deploy} --memory {more_mb}` gives more to all")
        return f"there is no bigger size; {', '.join(ways) or 'nor has Lambda one: give each task less to do at once'}"

    def __repr__(self) -> str:
        return f"Configuration({self.name!r}, {self.store!r}, ...)"  # the secret is not for tracebacks

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("a Configuration cannot be sent anywhere: what is secret stays where it is")


def read_configuration(service: Service, function: str) -> Configuration:
    """What is deployed under this name. Raises DeployError that names what is wrong and the command that mends it."""
    deploy = _deploy(function)
    try:
        said = json.loads(service.ask("GET", function_path(function, "/configuration")))
    except Refused as error:
        raise DeployError(_explained(error, service, function, deploy)) from error
    variables = said.get("Environment", {}).get("Variables", {})
    if "FNMAP_SECRET" not in variables or "FNMAP_STORE" not in variables:
        raise DeployError(f"the function {function!r} is not one of fnmap's, or an unfinished one: run `{deploy}`")
    if said.get("State", "Active") not in ("Active", "Inactive"):
        why = said.get("StateReason", "")
        raise DeployError(f"the function {function!r} is {said['State']}: {why}; run `{deploy}`")
    packages = dict(one.split("=", 1) for one in variables.get("FNMAP_PACKAGES", "").split() if "=" in one)
    try:
        secret = bytes.fromhex(variables["FNMAP_SECRET"])
        sizes = tuple(int(times) for times in variables.get("FNMAP_SIZES", "1").split())
    except ValueError:
        raise DeployError(
            f"the variables of the function {function!r} were changed by others (FNMAP_SECRET is not hexadecimal, or"
            f" FNMAP_SIZES not numbers): run `{deploy}`"
        ) from None  # what is wrong may be half a secret
    return Configuration(
        function,
        secret,
        variables["FNMAP_STORE"],
        said["Runtime"].removeprefix("python"),
        int(said["MemorySize"]),
        float(said["Timeout"]),
        packages,
        variables.get("FNMAP_CODE", ""),
        sizes,
        said.get("Role", ""),
    )


def sealed_store(there: Configuration, given: Store | None = None) -> Store:
    """The deployment's bucket unless another store is given, sealed with its secret. Raises UsageError for one that the
    function does not reach."""
    from fnmap.storage.open import open_store

    store: Any = given if given is not None else open_store(there.store)
    if not hasattr(store, "sealed_with"):
        raise UsageError(f'store={given!r}: on="lambda" needs one that the function reaches, such as {there.store!r}')
    sealed: Store = store.sealed_with(there.secret)
    return sealed


def check_alike(there: Configuration, code: str) -> None:
    """Raise DeployError unless what is pickled here can be loaded there."""
    deploy = there.deploy
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if there.python != here:
        raise DeployError(
            f"the function {there.name!r} runs Python {there.python}, and this is {here}: run"
            f" `{deploy} --python {here}`, or fnmap with Python {there.python}"
        )
    if there.code != code:
        raise DeployError(f"the function {there.name!r} runs another version of fnmap than this one: run `{deploy}`")
    for name in _ALIKE:
        mine, its = version_here(name), there.packages.get(name)
        if mine and its and mine.partition(".")[0] != its.partition(".")[0]:
            raise DeployError(f"the function {there.name!r} has {name} {its}, and here is {mine}: run `{deploy}`")


def check_packages(there: Configuration, modules: Iterable[str], what: str) -> None:
    """Raise DeployError if a package that these modules are of is certainly missing in the function."""
    listed = sum(len(name) + len(version) + 2 for name, version in there.packages.items())
    if not there.packages or listed > PACKAGES_LIMIT - LONGEST:  # it may have more than could be said
        return
    has = set(map(_kind, there.packages))
    homes = _homes()
    for module in sorted({module.partition(".")[0] for module in modules}):
        names = [name.lower().replace("_", "-") for name in homes.get(module, ())]
        if module in sys.stdlib_module_names or module in _THERE or not names or has.intersection(map(_kind, names)):
            continue
        if not is_installed_top(module):
            continue
        raise DeployError(
            f"{what} needs the package {names[0]!r}, which is missing in the function {there.name!r}: run"
            f" `{there.deploy} --add {names[0]}=={version_here(names[0])}`"
        )


def _kind(package: str) -> str:
    """Its name without what tells variants apart that have the same modules, as opencv-python-headless."""
    return "-".join(word for word in package.lower().replace("_", "-").split("-") if word not in _VARIANTS)


def check_size(there: Configuration, size: int) -> None:
    """Raise NotPicklable for an object that is larger than the memory of the function, or than S3 takes at once."""
    holds_mb = min(there.sizes[-1] * there.memory_mb, MOST_MB)
    needs_mb = -(-2 * size >> 20)  # it, and what is made of it
    if size <= holds_mb << 20:
        return
    deploy = f"{there.deploy} --memory {needs_mb}"
    more = f"run `{deploy}`, or " if needs_mb <= MEMORY_MOST_MB and size <= MOST_MB << 20 else ""
    raise NotPicklable(
        f"it has {size / 1e6:,.0f} MB, and the function {there.name!r} takes {holds_mb:,} MB at most: {more}put it into"
        " S3 and let each task read there what it needs"
    )


def _deploy(function: str) -> str:
    return "fnmap deploy" if function == "fnmap" else f"fnmap deploy --name {function}"


def version_here(package: str) -> str | None:
    """The version of a package that is installed here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _homes() -> dict[str, list[str]]:
    """The packages that top level modules are of."""
    return dict(importlib.metadata.packages_distributions())


def _explained(error: Refused, service: Service, function: str, deploy: str) -> str:
    if error.status == 404:
        where = f"in {service.region}"
        return f"there is no function {function!r} {where}: run `{deploy}`, or set AWS_REGION to where it is"
    if error.status == 403 and "Token" in error.code:
        return f"the AWS credentials are not accepted ({error}): run `aws configure` or `aws sso login`"
    if error.status == 403:
        return (
            f"no permission to use the function {function!r} ({error}): `fnmap deploy --policy` prints what you need,"
            " for whoever administers the account"
        )
    return f"the function {function!r} cannot be looked up: {error}; `fnmap doctor` looks further"
