"""PiWind, the Oasis toy wind model: its published event losses, time line and curves (`data/piwind`).

A small British portfolio (3.4 million insured, amounts read as GBP), 378 loss-making events on a time line
of 1000 periods. Perspectives: "gul" ground-up losses, "il" after the insurance policies. Provenance in
`data/README.md`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from model.arrays import F8, I4
from model.errors import ModelError
from model.losses import Elt, Yelt
from model.metrics import Annual, annual

Perspective = Literal["gul", "il"]
PERIODS = 1000
SAMPLES = 1
DATA = Path(__file__).parent / "data"


@cache
def published(perspective: Perspective, table: str) -> pa.Table:
    """A published ORD table: "splt", "ept" or "palt" of either perspective, or "melt" of "gul".

    Raises ModelError if there is no such table.
    """
    path = DATA / "piwind" / f"{perspective}_S1_{table}.csv"
    if not path.exists():
        have = sorted(f.stem.replace("_S1", "") for f in path.parent.glob("*_S1_*.csv"))
        raise ModelError(f"PiWind published no table {perspective}_{table}; choose from {', '.join(have)}")
    return pyarrow.csv.read_csv(path)


def return_periods() -> tuple[float, ...]:
    """The return periods in years that PiWind's curves are asked for, longest first."""
    return tuple(map(float, pyarrow.csv.read_csv(DATA / "piwind" / "returnperiods.csv")["return_period"].to_pylist()))


def annual_losses(perspective: Perspective) -> tuple[Annual, Annual]:
    """(sampled, mean damage) annual losses from the published SPLT, each f8[1, 1000]."""
    return _annual(_rows(perspective, 1)), _annual(_rows(perspective, -1))


def _annual(splt: pa.Table) -> Annual:
    return annual(splt["Period"].to_numpy(), splt["Loss"].to_numpy(), periods=PERIODS)


def yelt(perspective: Perspective, *, mean_damage: bool = False) -> Yelt:
    """The published losses over the 1000 periods, of the sampled run or the mean-damage run.

    PiWind dates every event on 1 January, so a period's events keep the order of their ids.
    """
    t = _rows(perspective, -1 if mean_damage else 1).sort_by([("Period", "ascending"), ("EventId", "ascending")])
    period, event = (t[c].to_numpy().astype(np.int32) for c in ("Period", "EventId"))
    day = np.zeros(period.size, dtype=np.int16)
    return Yelt.from_rows(period, event, day, t["Loss"].to_numpy().astype(np.float32), years=PERIODS)


def _rows(perspective: Perspective, sample: int) -> pa.Table:
    splt = published(perspective, "splt")
    return splt.filter(pc.equal(splt["SampleId"], sample))


@cache
def elt() -> Elt:
    """The ground-up event loss table of PiWind, GBP.

    The rate is an event's occurrences per period of the published time line, the mean its published
    mean-damage loss (MELT SampleType 1), the exposure its footprint exposure. One published sample has no
    standard deviation; it is taken over the 100 samples of the same events and portfolio in the ORD set
    (`data/oasis_ord`, SELT), each capped at the exposure as the published losses are; a mean at the
    exposure leaves no room for any.
    """
    melt = published("gul", "melt")
    melt = melt.filter(pc.equal(melt["SampleType"], 1)).sort_by("EventId")
    event = melt["EventId"].to_numpy().astype(np.int32)
    mean, exposure = (melt[c].to_numpy() for c in ("MeanLoss", "FootprintExposure"))
    sd = np.where(mean < exposure, _sample_sd(event, exposure), 0.0)
    return Elt(event, _rates(event), mean, sd, exposure)


def _rates(event: I4) -> F8:
    line = pyarrow.csv.read_csv(DATA / "piwind" / "occurrence_lt.csv")["event_id"].to_numpy()
    return np.asarray(np.bincount(line, minlength=int(event.max()) + 1)[event] / PERIODS, dtype=np.float64)


def _sample_sd(event: I4, exposure: F8, samples: int = 100) -> F8:
    selt = pq.read_table(DATA / "oasis_ord" / "selt.parquet")
    selt = selt.filter(pc.greater(selt["SampleId"], 0))  # negative ids are Oasis's summaries, not samples
    row = np.searchsorted(event, selt["EventId"].to_numpy())
    loss = np.zeros((event.size, samples))  # a sample without a row had no loss
    loss[row, selt["SampleId"].to_numpy() - 1] = selt["Loss"].to_numpy()
    return np.asarray(np.minimum(loss, exposure[:, None]).std(axis=1, ddof=1))
