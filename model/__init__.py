"""Catastrophe reinsurance in plain numpy: from event losses to the price of a deal and the capital of a portfolio.

Read in this order: `losses` (event and year loss tables), `simulate` (years out of an event loss table),
`terms` and `recoveries` (what a layer pays), `metrics` (exceedance curves and averages), `pricing` (a deal
in, its price out), `portfolio`, `retro` and `capital` (deals together). `tables` names the columns as Open
Results Data does, `oed` reads reinsurance as Open Exposure Data tells it, `piwind` loads published event losses,
`synth` makes a book of deals on them, and `python -m model.price_book` prices that book; `book` makes a
portfolio, and `python -m model.rollup` rolls it up; `book_files` reads one of your own. `docs/model.md` has more.

Hurricanes: `wind_tracks`, `wind_decay`, `wind_profiles`, `wind_field`, `wind_loss`, and `wind_fortran` with the same as
a program; `python -m model.footprints` makes footprints and an event loss table of all of 1970-2018 (docs/wind.md).

The library modules are pure functions over numpy arrays and know nothing of how they are mapped.
"""
