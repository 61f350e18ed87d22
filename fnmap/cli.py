"""The command `fnmap`: deploy to AWS and look after it; see named runs."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnmap.compute.open import open_compute
from fnmap.errors import DeployError, FnmapError

if TYPE_CHECKING:
    from fnmap.aws.clients import Clients
    from fnmap.aws.deploy import Change
    from fnmap.aws.deployment import Deployment
    from fnmap.aws.package import Package
    from fnmap.storage.base import Store

_OPTIONS = (
    "python", "arch", "memory_mb", "sizes", "timeout_s", "disk_mb", "concurrency", "log_days", "tmp_days", "metrics",
)  # fmt: skip
_KINDS = {"LogGroup": "logs", "EventInvokeConfig": "async calls"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, or 1 if something is not well. Wrong arguments end it with 2."""
    said = _parser().parse_args(arguments)
    try:
        return int(said.run(said))
    except FnmapError as error:
        print(f"fnmap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # of whoever read what we print, and has enough
        sys.stderr.close()
        return 1


# -- deployments -----------------------------------------------------------------------------------------


def deploy(said: argparse.Namespace) -> int:
    """Show what would change, and change it."""
    from fnmap.aws.clients import Clients
    from fnmap.aws.deploy import apply, left_out, plan, settled

    if said.template:
        return _template(said)
    aws = Clients(said.region)
    deployment = settled(aws, said.name, _options(said))
    if said.policy:
        return _policy(said, deployment)
    package = _packaged(said, deployment)
    print(f"{said.name} in {aws.region}, account {aws.account}")
    versions = " ".join(f"{name} {version}" for name, version in package.versions.items())
    size = f"{package.unzipped_bytes / 1e6:.0f} MB, zipped {package.zipped_bytes / 1e6:.0f}"
    _wrapped(f"python {deployment.python}, {deployment.arch}, {size}: {versions}")
    if said.add and (gone := left_out(aws, said.name, package)):  # those stay
        deployment = replace(deployment, requirements=(*deployment.requirements, *gone))
        package = _packaged(said, deployment)
    elif not said.requirements and (gone := left_out(aws, said.name, package)):
        raise DeployError(
            f"the function has {', '.join(gone)}, which this deployment would leave out; "
            "give --requirements FILE again, --add for one more, or --requirements /dev/null if they are to go"
        )
    changes = plan(aws, deployment, package)
    for change in changes:
        _show(change)
    if all(change.action == "keep" for change in changes):
        print("nothing to do")
    elif said.dry_run:
        print("nothing was done: it is a dry run")
    else:
        _apply(aws, changes, apply)
        print("next: " + " ".join(["fnmap doctor", *(["--name", said.name] if said.name != "fnmap" else [])]))
    return 0


def _packaged(said: argparse.Namespace, deployment: Deployment) -> Package:
    from fnmap.aws.package import build_package

    package = build_package(deployment.python, deployment.arch, deployment.requirements)
    if said.package:
        try:
            shutil.copyfile(package.path, said.package)
        except OSError as error:
            raise DeployError(f"--package {said.package}: {error.strerror}; give a file that can be written") from error
    return package


def _options(said: argparse.Namespace) -> dict[str, Any]:
    """What was said of the deployment; None for what was not."""
    from fnmap.aws.package import read_requirements

    options = {name: getattr(said, name) for name in _OPTIONS}
    if said.requirements or said.add:
        listed = read_requirements(said.requirements) if said.requirements else []
        options["requirements"] = (*listed, *said.add)
    if pairs := dict(pair.partition("=")[::2] for pair in said.tag):
        options["tags"] = pairs
    return options


def _template(said: argparse.Namespace) -> int:
    from fnmap.aws.template import ANYWHERE, template

    options = {name: value for name, value in _options(said).items() if value is not None}
    deployment = replace(ANYWHERE, name=said.name, **options)
    package = _packaged(said, deployment)
    print(template(deployment, package, said.template), end="")
    return 0


def _policy(said: argparse.Namespace, deployment: Deployment) -> int:
    import json

    from fnmap.aws import policies

    document = policies.user(deployment) if said.policy == "user" else policies.function(deployment)
    print(json.dumps(document, indent=2))
    return 0


def destroy(said: argparse.Namespace) -> int:
    """Show what there is, ask, and delete it."""
    from fnmap.aws.clients import Clients
    from fnmap.aws.deploy import apply, keep_secret, plan_destroy

    aws = Clients(said.region)
    changes = plan_destroy(aws, said.name, keep_data=said.keep_data)
    print(f"{said.name} in {aws.region}, account {aws.account}")
    for change in changes:
        _show(change)
    if not changes or said.dry_run:
        print("nothing was done: it is a dry run" if changes else "nothing to delete")
        return 0
    if not said.yes and not _agreed(said.name):
        print("nothing was done")
        return 1
    if said.keep_data and (kept := keep_secret(aws, said.name)):
        _wrapped(f"its secret is kept in {kept}: the next deployment of that name needs it to trust its results")
    _apply(aws, changes, apply)
    return 0


def _agreed(name: str) -> bool:
    if not sys.stdin.isatty():
        raise DeployError("nobody is here to agree; give --yes")
    return input(f"Type {name} to delete all this for good: ").strip() == name


def _apply(aws: Clients, changes: Sequence[Change], apply: Any) -> None:
    begun = time.monotonic()
    apply(aws, changes, lambda change: print(f"  {change.action} {_kind(change)} ...", flush=True))
    print(f"done in {time.monotonic() - begun:.0f} s")


def _kind(change: Change) -> str:
    kind = change.resource.kind.rpartition("::")[2]
    return _KINDS.get(kind, kind.lower())


def _show(change: Change) -> None:
    print(f"  {change.action:<7} {_kind(change):<12} {change.resource.name}")
    for detail in change.details:
        _wrapped(detail, " " * 10)


def doctor(said: argparse.Namespace) -> int:
    """Is all well?"""
    from fnmap.aws.doctor import examine

    problems = 0
    for finding in examine(said.region, said.name):
        problems += finding.state == "problem"
        mend = f" -> {finding.mend}" if finding.mend else ""
        _wrapped(f"{finding.state:<8} {finding.about:<13} {finding.said}{mend}", "", " " * 23)
    print(f"{problems} problem{'s' * (problems > 1)}" if problems else "all is well")
    return 1 if problems else 0


def _wrapped(text: str, first: str = "  ", rest: str | None = None) -> None:
    """Print it as wide as the terminal, without breaking names or commands' words."""
    width = max(40, shutil.get_terminal_size().columns)
    lines = textwrap.TextWrapper(width, initial_indent=first, subsequent_indent=first if rest is None else rest)
    lines.break_long_words = lines.break_on_hyphens = False
    print(lines.fill(text))


# -- runs ------------------------------------------------------------------------------------------------


def runs(said: argparse.Namespace) -> int:
    """The named runs of a store, the newest first."""
    from fnmap.api import runs as in_store

    found = in_store(on="inline", store=said.store if said.deployment is None else _bucket(said))
    if not found:
        print("no named runs")
        return 0
    width = max(4, *(len(info.name) for info in found))
    print(f"{'name':<{width}}  {'state':<11}  {'done':>17}  {'failed':>6}  {'started':<16}  function")
    for info in found:
        done = f"{_number(info.done)} of {_number(info.total)}"
        started = datetime.fromtimestamp(info.started).strftime("%Y-%m-%d %H:%M")
        print(
            f"{info.name:<{width}}  {info.state:<11}  {done:>17}  {_number(info.failed):>6}  {started}  {info.function}"
        )
    return 0


def _on(said: argparse.Namespace) -> Any:
    """Whose runs: a deployment's are read with its secret."""
    return "inline" if said.deployment is None else open_compute("lambda", function=said.deployment)


def _bucket(said: argparse.Namespace) -> Store:
    """Where a deployment's runs are. Whether its code is like ours does not matter to who reads no results."""
    from fnmap.aws.configuration import read_configuration, sealed_store
    from fnmap.aws.requests import Service
    from fnmap.storage.open import open_store

    there = read_configuration(Service("lambda"), said.deployment)
    return sealed_store(there, None if said.store is None else open_store(said.store))


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def attach(said: argparse.Namespace) -> int:
    """Follow a run to its end, and say what became of it."""
    from fnmap.api import attach as to_run
    from fnmap.observe.events import RunEnded, RunProgressed, RunStarted
    from fnmap.observe.progress import Bar

    run = to_run(said.run_name, on=_on(said), store=said.store)
    bar, status = Bar(), run.status
    bar(RunStarted(run.id, said.run_name, status.total))
    while status.state == "running":
        bar(RunProgressed(run.id, status.done, status.failed, status.running, status.total))
        run.wait(1.0)
        status = run.status
    bar(RunEnded(run.id, status.state, status.done, status.failed))
    print(f"{run.id}: {status.state}, {status.done:,} of {status.total:,} done, {status.failed:,} failed")
    for error in list(run.errors.values())[: said.errors]:
        _wrapped(str(error).partition("\n")[0])
    if status.state == "interrupted":
        _wrapped(f"its driver is gone: fnmap.attach({run.id!r}).retry() finishes it", "")
    return 0 if status.state == "done" and not status.failed else 1


def gc(said: argparse.Namespace) -> int:
    """Delete old named runs."""
    from fnmap.api import gc as collect

    found = collect(said.older_than, on=_on(said), store=said.store, dry_run=said.dry_run)
    for name in found.runs:
        print(f"  {name}")
    kept = f", {found.kept_parts:,} kept for the cache" if found.kept_parts else ""
    verb = "would be deleted" if said.dry_run else "deleted"
    print(f"{len(found.runs):,} runs of {found.parts:,} parts {verb}{kept}")
    if found.queues:
        print(f"{len(found.queues):,} queues of clients that are gone {verb}")
    return 0


# -- what may be said ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    import fnmap

    parser = argparse.ArgumentParser(prog="fnmap", description=_doc(sys.modules[__name__]))
    parser.add_argument("--version", action="version", version=f"fnmap {fnmap.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=_doc(run), description=_doc(run))
        made.set_defaults(run=run)
        return made

    for one in (made := command("deploy", deploy), command("doctor", doctor), gone := command("destroy", destroy)):
        one.add_argument("--name", default="fnmap", help="of the deployment (default: fnmap)")
        one.add_argument("--region", help="of AWS (default: that of the environment)")
    _deploy_options(made)
    gone.add_argument("--keep-data", action="store_true", help="keep the bucket")
    gone.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
    gone.add_argument("--yes", action="store_true", help="do not ask")
    listed, attached, collected = command("runs", runs), command("attach", attach), command("gc", gc)
    for one in (listed, attached, collected):
        one.add_argument("--store", help="a folder or URL (default: FNMAP_STORE, else ~/.fnmap)")
        of = 'runs of on="lambda": those in this deployment\'s bucket (fnmap, if no name is given)'
        one.add_argument("--deployment", nargs="?", const="fnmap", metavar="NAME", help=of)
    attached.add_argument("run_name", metavar="NAME")
    attached.add_argument("--errors", type=int, default=10, help="show so many at most (default: 10)")
    collected.add_argument("older_than", metavar="AGE", help="such as 7d, 12h or 30m")
    collected.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
    return parser


def _deploy_options(parser: argparse.ArgumentParser) -> None:
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    parser.add_argument("--dry-run", action="store_true", help="only show what would change")
    parser.add_argument("--template", nargs="?", const="yaml", choices=("yaml", "json"), help="print CloudFormation")
    parser.add_argument("--policy", nargs="?", const="user", choices=("user", "function"), help="print who may do what")
    parser.add_argument("--package", type=Path, metavar="FILE", help="copy the zip of the function there")
    group = parser.add_argument_group("what is not said stays as it is deployed")
    group.add_argument("--python", default=own, help=f"of the function (default: as here, {own})")
    group.add_argument("--arch", choices=("x86_64", "arm64"), help="(at first: x86_64)")
    group.add_argument("--memory", dest="memory_mb", type=int, metavar="MB", help="(at first: 1769, one processor)")
    sizes = "functions besides, of so many times the memory, for tasks that run out of it, as in 2,4 (at first: none)"
    group.add_argument("--sizes", type=_sizes, metavar="N,N", help=sizes)
    group.add_argument("--timeout", dest="timeout_s", type=int, metavar="S", help="of a call (at first: 900)")
    group.add_argument("--disk", dest="disk_mb", type=int, metavar="MB", help="of /tmp (at first: 512)")
    group.add_argument("--concurrency", type=int, metavar="N", help="reserve so many of the account's environments")
    group.add_argument("--log-days", type=int, metavar="N", help="keep logs so long (at first: 30)")
    group.add_argument("--tmp-days", type=int, metavar="N", help="keep unnamed runs so long (at first: 7)")
    group.add_argument("--metrics", action=argparse.BooleanOptionalAction, help="to CloudWatch (at first: no)")
    parser.add_argument("--requirements", metavar="FILE", help="packages that the functions import")
    more = "one more, besides those that are deployed, as in pandas==3.0"
    parser.add_argument("--add", action="append", default=[], metavar="PACKAGE", help=more)
    parser.add_argument("--tag", action="append", default=[], metavar="K=V", type=_tag, help="on all that is made")


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return () if text == "none" else tuple(sorted({int(times) for times in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers, as in 2,4, or none; got {text!r}") from None


def _tag(text: str) -> str:
    if not text.partition("=")[1]:
        raise argparse.ArgumentTypeError(f"must be K=V; got {text!r}")
    return text


def _doc(of: Any) -> str:
    return (of.__doc__ or "").partition("\n")[0]
