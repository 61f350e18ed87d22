"""Python scalars <-> typed Arrow arrays, exact in value and type.

An encoder is given values of one type, or None where `absent`, and answers None if a typed array would
not give back exactly these objects. What could be inexact is decoded at once and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from fnmap.format.table import arrow
from fnmap.format.table.spec import Column, Spec, pack, unpack

_NUMERIC = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
_NUMPY = ("float64", "float32", "int64", "int32", "int16", "int8", "uint32", "uint16", "uint8")
_NUMBERS: dict[str, Any] = {"int": int, "float": float, **{name: np.dtype(name).type for name in _NUMPY}}
_WIDE = Context(prec=100)  # digits: wider than any decimal that has a column
_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1)


def encode(values: Sequence[Any], kind: type[Any], absent: Any) -> Column | None:
    """A column, or None. May raise where values do not fit (an int over 64 bits, a lone surrogate)."""
    if kind in _NUMERIC:
        return Column(_numeric(values, kind, absent), {"as": kind.__name__})
    encoder = _ENCODERS.get(kind)
    return encoder(values, absent) if encoder else None


def decode(array: Any, spec: Spec) -> list[Any]:
    """The values of a column of this module."""
    return with_none(_DECODERS[spec["as"]](array, spec), array)


def with_none(values: list[Any], array: Any) -> list[Any]:
    """`values` with None where `array` is null."""
    if array.null_count:
        for at in np.flatnonzero(~arrow.valid(array)).tolist():
            values[at] = None
    return values


def _numeric(values: Sequence[Any], kind: type[Any], absent: Any) -> Any:
    cells = values if absent is None else [kind() if v is None else v for v in values]
    return arrow.from_numpy(np.array(cells, kind), _NUMERIC[kind], absent)


def _decode_bool(array: Any, _spec: Spec) -> list[Any]:
    return list(arrow.to_numpy(array, bool).tolist())


def _decode_int(array: Any, _spec: Spec) -> list[Any]:
    return list(arrow.to_numpy(array, np.int64).tolist())


def _decode_float(array: Any, _spec: Spec) -> list[Any]:
    return list(arrow.to_numpy(array, np.float64).tolist())


def _decode_arrow(array: Any, _spec: Spec) -> list[Any]:
    return list(array.to_pylist())


def _encode_str(values: Sequence[str | None], absent: Any) -> Column:
    return Column(arrow.from_texts(values, absent), {"as": "str"})


def _encode_bytes(values: Sequence[bytes | None], absent: Any) -> Column:
    return Column(arrow.from_bytes(values, absent), {"as": "bytes"})


def _encode_date(values: Sequence[date | None], absent: Any) -> Column:
    days = np.array([0 if v is None else v.toordinal() - _EPOCH.toordinal() for v in values], np.int32)
    return Column(arrow.from_numpy(days, pa.date32(), absent), {"as": "date"})


def _decode_date(array: Any, _spec: Spec) -> list[Any]:
    return list(arrow.to_numpy(array, np.int32).astype("M8[D]").tolist())


def _encode_time(values: Sequence[time | None], absent: Any) -> Column | None:
    """Times of day without zone or fold."""
    if any(v is not None and (v.tzinfo is not None or v.fold) for v in values):
        return None
    seconds = [0 if v is None else (v.hour * 60 + v.minute) * 60 + v.second for v in values]
    us = np.array(seconds, np.int64) * 1_000_000
    us += np.array([0 if v is None else v.microsecond for v in values], np.int64)
    return Column(arrow.from_numpy(us, pa.time64("us"), absent), {"as": "time"})


def _encode_timedelta(values: Sequence[timedelta | None], absent: Any) -> Column | None:
    """Durations that fit 64 bits of microseconds."""
    us = _microseconds(values)
    return None if us is None else Column(arrow.from_numpy(us, pa.duration("us"), absent), {"as": "timedelta"})


def _microseconds(spans: Sequence[timedelta | None]) -> Any | None:
    """Shape (n,), with 0 for None; None if 64 bits are too few."""
    days = np.array([0 if v is None else v.days for v in spans], np.int64)
    if (np.abs(days) >= np.iinfo(np.int64).max // _DAY_US).any():
        return None
    within = [0 if v is None else v.seconds * 1_000_000 + v.microseconds for v in spans]
    return days * _DAY_US + np.array(within, np.int64)


def _decode_timedelta(array: Any, _spec: Spec) -> list[Any]:
    return list(arrow.to_numpy(array, np.int64).view("m8[us]").tolist())


def _encode_datetime(values: Sequence[datetime | None], absent: Any) -> Column | None:
    """All naive, or all in one time zone of the standard library, which travels in the spec."""
    present = [v for v in values if v is not None]
    zones = list({id(v.tzinfo): v.tzinfo for v in present}.values())
    if type(zones[0]) not in (type(None), timezone, ZoneInfo) or len(set(map(repr, zones))) > 1:
        return None
    if zones[0] is None:
        us = _microseconds([None if v is None else v - _EPOCH for v in values])
        column = Column(arrow.from_numpy(us, pa.timestamp("us"), absent), {"as": "datetime"})
        return None if any(v.fold for v in present) else column
    utc = [None if v is None else v.astimezone(UTC).replace(tzinfo=None) - _EPOCH for v in values]
    key = getattr(zones[0], "key", None) or "UTC"
    kind = pa.timestamp("us", tz=key if "/" in key else "UTC")
    array = arrow.from_numpy(_microseconds(utc), kind, absent)
    column = Column(array, {"as": "datetime", "zone": _noted(zones[0])})
    # equality forgets the fold, and a time that the zone's clocks skipped comes back as another
    back = [_wall(v) for v in decode(*column) if v is not None]
    return column if back == list(map(_wall, present)) else None


def _noted(zone: Any) -> list[Any]:
    """The arguments that make the zone again. Raises ValueError for one that has no name and no offset."""
    if isinstance(zone, ZoneInfo):
        if zone.key is None:
            raise ValueError("a zone of a file")
        return ["key", zone.key]
    offset: timedelta = zone.utcoffset(None)
    whole = [offset.days, offset.seconds, offset.microseconds]
    return [*whole, zone.tzname(None)] if zone != timezone(offset) or repr(zone) != repr(timezone(offset)) else whole


def _zone(*noted: Any) -> ZoneInfo | timezone:
    if noted[0] == "key":
        return ZoneInfo(noted[1])
    return timezone(timedelta(*noted[:3]), *noted[3:])


def _wall(moment: datetime) -> tuple[datetime, int]:
    return moment.replace(tzinfo=None), moment.fold


def _decode_datetime(array: Any, spec: Spec) -> list[Any]:
    moments = list(arrow.to_numpy(array, np.int64).view("M8[us]").tolist())
    if "zone" not in spec:
        return moments
    zone = _zone(*spec["zone"])
    # what stands under a null is anything, even nothing
    return [m and m.replace(tzinfo=UTC).astimezone(zone) for m in with_none(moments, array)]


def _encode_decimal(values: Sequence[Decimal | None], absent: Any) -> Column | None:
    """Finite decimals of one exponent: Decimal('1.50') must not come back as Decimal('1.5')."""
    present = [v for v in values if v is not None]
    exponents = {v.as_tuple().exponent for v in present}
    exponent = exponents.pop()
    if exponents or not isinstance(exponent, int) or not -38 <= exponent <= 0:
        return None
    digits = max(max(v.adjusted() for v in present) + 1 - exponent, -exponent)
    if digits > 38 or any(v.is_signed() and not v for v in present):  # a negative zero
        return None
    whole = [0 if v is None else int(v.scaleb(-exponent, _WIDE)) for v in values]
    body = b"".join(n.to_bytes(16, "little", signed=True) for n in whole)
    kind = pa.decimal128(18 if digits <= 18 else 38, -exponent)
    return Column(arrow.from_numpy(np.frombuffer(body, "V16"), kind, absent), {"as": "Decimal"})


def encode_numbers(values: Sequence[Any], kinds: set[type[Any]], absent: Any) -> Column | None:
    """Numbers of several types (a function that returns 0 or 0.5): doubles, with their types in the spec."""
    names = [name for name, kind in _NUMBERS.items() if kind in kinds]
    if len(names) < len(kinds):
        return None
    codes = {_NUMBERS[name]: code for code, name in enumerate(names)}
    types = np.array([codes.get(type(v), 0) for v in values], np.uint8)
    floats = [0.0 if v is None else float(v) for v in values]
    array = arrow.from_numpy(np.array(floats), pa.float64(), absent)
    column = Column(array, {"as": "numbers", "types": names, "codes": pack(types)})
    pairs = zip(decode(*column), values, strict=True)
    return column if all(a is b or a == b or b != b for a, b in pairs) else None


def _decode_numbers(array: Any, spec: Spec) -> list[Any]:
    kinds = [_NUMBERS[name] for name in spec["types"]]
    codes = unpack(spec["codes"], np.uint8).tolist()
    floats = with_none(_decode_float(array, spec), array)
    return [v if v is None else kinds[code](v) for v, code in zip(floats, codes, strict=True)]


_ENCODERS: dict[type[Any], Callable[[Sequence[Any], Any], Column | None]] = {
    str: _encode_str,
    bytes: _encode_bytes,
    date: _encode_date,
    time: _encode_time,
    timedelta: _encode_timedelta,
    datetime: _encode_datetime,
    Decimal: _encode_decimal,
}
_DECODERS: dict[str, Callable[[Any, Spec], list[Any]]] = {
    "bool": _decode_bool,
    "int": _decode_int,
    "float": _decode_float,
    "str": _decode_arrow,
    "bytes": _decode_arrow,
    "date": _decode_date,
    "time": _decode_arrow,
    "timedelta": _decode_timedelta,
    "datetime": _decode_datetime,
    "Decimal": _decode_arrow,
    "numbers": _decode_numbers,
    "null": lambda array, _spec: [None] * len(array),
}
