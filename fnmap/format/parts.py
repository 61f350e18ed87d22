"""Parts: the committed results of chunks, one Parquet object each. Written by workers, read by anyone."""

from __future__ import annotations

import functools
import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from fnmap.errors import Damaged, MissingKey, ResultLost
from fnmap.format import framed, keys, small
from fnmap.format.call import Call, Failure, Report
from fnmap.format.payload import Values
from fnmap.format.small import Decoded
from fnmap.format.travel import whole_home
from fnmap.storage.base import Store, create_parts, open_object

Content: TypeAlias = Decoded | framed.Framed

KEPT_PARTS = 8


def commit(call: Call, values: list[Any], report: Report) -> str:
    """Commit the results of a call. "won": they are the chunk's result; "lost": it had one already."""
    assert call.commit is not None
    store, key = call.commit
    info = {"attempt": call.attempt, "laps": [list(lap) for lap in report.laps], "ran": report.ran}
    tasks = call.tasks[: report.ran]
    if isinstance(report.values, Values) and keys.is_framed(key):
        won = _create_framed(store, key, tasks, report.values, report.failures, info)
    else:
        won = store.create(key, _parquet(tasks, values, report.failures, info, arrow=report.arrow))
    return "won" if won else "lost"


def _create_framed(
    store: Store,
    key: str,
    tasks: Sequence[int],
    values: Values,
    failures: Mapping[int, Failure],
    info: Mapping[str, Any],
) -> bool:
    kept = {at: _kept(failure) for at, failure in failures.items()}
    return create_parts(store, key, framed.encode(tasks, values, kept, info))


def _parquet(
    tasks: Sequence[int],
    values: list[Any],
    failures: Mapping[int, Failure],
    info: Mapping[str, Any],
    *,
    arrow: bool = False,
) -> bytes | memoryview:
    if not failures and (body := small.to_parquet(tasks, values, info)):
        return body
    from fnmap.format.table import to_parquet

    return to_parquet(encode_part(tasks, values, failures, info, arrow=arrow))


def encode_part(
    tasks: Sequence[int],
    values: list[Any],
    failures: Mapping[int, Failure],
    info: Mapping[str, Any] | None = None,
    *,
    arrow: bool = False,
) -> Any:
    """The results of some tasks as an Arrow table; with `arrow`, one without pickles."""
    from fnmap.format.table import encode  # pyarrow, for those who need it
    from fnmap.format.table.cells import dump_cell

    kept = {at: _kept(failure) for at, failure in failures.items()}
    return encode(tasks, values, kept, dumps=dump_cell if arrow else _dumps, info=info or {})


def _kept(failure: Failure) -> Failure:
    """The failure with its exception pickled: one that never left its process is the object itself."""
    if failure.exception is None or isinstance(failure.exception, bytes):
        return failure
    try:
        return replace(failure, exception=_dumps(failure.exception))
    except Exception:  # whatever the user's class raises
        return replace(failure, exception=None)


def _dumps(obj: Any) -> bytes:
    out = io.BytesIO()
    with whole_home(out, lambda _: True) as dumper:
        dumper.dump(obj)
    return out.getvalue()


def close_off(store: Store, key: str) -> bool:
    """Take the place of a chunk's result, so that no attempt can commit any more. False if one has."""
    if keys.is_framed(key):
        return _create_framed(store, key, (), Values.of_plain([]), {}, _SEAL)
    return store.create(key, _seal())


@functools.cache
def _seal() -> bytes:
    """What stands in the place of a chunk's result when it is closed off."""
    return bytes(_parquet((), [], {}, _SEAL))


_SEAL = {"split": True}


def is_gone(store: Store, key: str, *, seal: bool) -> bool:
    """Is the part at that key missing, damaged or closed off? With `seal`, one that is missing is closed off, so that
    no late attempt brings it back once its tasks are in another."""
    for _ in range(2):  # a late attempt may have been quicker than the seal
        try:
            return _is_split(store, key)
        except Damaged:
            return True
        except MissingKey:
            if not seal or close_off(store, key):
                return True
    return True


def _is_split(store: Store, key: str) -> bool:
    body = open_object(store, key)
    if keys.is_framed(key):
        return bool(framed.decode(memoryview(body)).info.get("split"))
    if small.from_parquet(body):
        return False
    from fnmap.format.table import from_parquet, read_info

    return body == _seal() or bool(read_info(from_parquet(body)).get("split"))


def read_table(store: Store, key: str) -> Any:
    """The Arrow table of a part."""
    if keys.is_framed(key):
        found = framed.decode(open_object(store, key))
        return encode_part(found.tasks, list(found.values), found.failures, found.info)
    from fnmap.format.table import from_parquet

    return from_parquet(open_object(store, key))


def read_values(store: Store, key: str, chosen: str | tuple[str, ...] | None) -> tuple[Sequence[Any], int]:
    """The values of a part by position, and the bytes that it has; or some columns of them, which are not counted. One
    that cannot be read raises ResultLost when it is asked for; a part that cannot, MissingKey or Damaged."""
    if chosen is not None:
        from fnmap.format.table.select import select

        if keys.is_framed(key):
            picked = _picked(framed.decode(open_object(store, key)), chosen)
        else:
            picked = select(open_object(store, key), chosen)
        if not picked:
            raise MissingKey(CLOSED_OFF.format(key))
        return picked, 0
    _, decoded, size = _sized(store, key, keep=not keys.is_framed(key))
    if decoded.info.get("split"):
        raise MissingKey(CLOSED_OFF.format(key))
    values: Any = Stored(store, key, len(decoded.values)) if decoded.failures else decoded.values
    return values, size


def _picked(found: framed.Framed, chosen: str | tuple[str, ...]) -> list[Any]:
    from fnmap.format.table.records import RESERVED
    from fnmap.format.table.select import of_table

    names, values = (chosen,) if isinstance(chosen, str) else chosen, list(found.values)
    if all(type(v) is dict and all(name in v and name not in RESERVED for name in names) for v in values):
        return [v[chosen] if isinstance(chosen, str) else {name: v[name] for name in names} for v in values]
    return of_table(encode_part(found.tasks, values, found.failures), chosen)  # as of a part that is Parquet


CLOSED_OFF = "{!r} has been closed off: what was there was lost"


class Stored:
    """The values of a part, read from the store when they are asked for, and not kept for long."""

    each = True

    def __init__(self, store: Store, key: str, length: int) -> None:
        self.store, self.key, self._length = store, key, length

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        return 0

    def __getitem__(self, at: int) -> Any:
        decoded = _decoded(self.store, self.key)
        if decoded.info.get("split"):
            raise MissingKey(CLOSED_OFF.format(self.key))
        if at in decoded.failures:
            raise ResultLost(decoded.failures[at].message)
        return decoded.values[at]

    def plain(self) -> list[Any]:
        return [self[at] for at in range(self._length)]

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(self._length))


_plain_runs: set[tuple[Store, str]] = set()


def refuse_pickles(store: Store, run: str) -> None:
    """From now on nothing of the parts of this run is unpickled in this process."""
    _plain_runs.add((store, run))


_recent: OrderedDict[tuple[int, str], tuple[Store, Content, int]] = OrderedDict()
_recent_lock = threading.Lock()


def load(store: Store, key: str) -> None:
    """Read a part, so that it is among the last few."""
    _sized(store, key)


def _decoded(store: Store, key: str) -> Content:
    """A part's content; the last few are kept, for results are mostly read one after another."""
    return _sized(store, key)[1]


def _sized(store: Store, key: str, *, keep: bool = True) -> tuple[Store, Content, int]:
    """With the store, which keeps its id from being another's, and the bytes of its table. Without `keep`, what is
    mapped is mapped anew: its arrays are the reader's own."""
    place = (id(store), key)
    with _recent_lock:
        if place in _recent:
            _recent.move_to_end(place)
            return _recent[place]
    found = store, *_read(open_object(store, key), key, plain=(store, keys.run_of_part(key)) in _plain_runs)
    if not keep:
        return found
    with _recent_lock:
        _recent[place] = found
        while len(_recent) > KEPT_PARTS:
            _recent.popitem(last=False)
    return found


def _read(body: memoryview, key: str, *, plain: bool) -> tuple[Content, int]:
    """What a part holds, and its size in bytes; with `plain`, nothing of it is unpickled."""
    if keys.is_framed(key):
        return framed.decode(body), len(body)
    if found := small.from_parquet(body):
        return found, len(body)
    from fnmap.format.table import decode, from_parquet
    from fnmap.format.table.cells import load_cell

    if body == _seal():
        return Decoded((), [], {}, dict(_SEAL)), 0
    table = from_parquet(body)
    decoded = decode(table, loads=load_cell if plain else pickle.loads)
    if plain:
        for at, failure in decoded.failures.items():
            decoded.failures[at] = failure.text_only()
    return decoded, int(table.nbytes)


def read_report(store: Store, key: str) -> tuple[Sequence[int], Report] | None:
    """The tasks of a part and the report that it amounts to; None if the chunk was closed off."""
    decoded = _decoded(store, key)
    if decoded.info.get("split"):
        return None
    laps = [(n, s) for n, s in decoded.info.get("laps", ())]
    values: Any = Stored(store, key, len(decoded.tasks))
    return decoded.tasks, Report(len(decoded.tasks), decoded.failures, laps, values, committed="lost")
