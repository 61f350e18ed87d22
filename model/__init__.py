"""Catastrophe reinsurance in plain numpy: from event losses to the price of a deal.

Read in this order: `losses` (event and year loss tables), `simulate` (years out of an event loss
table), `terms` (what a layer pays), `metrics` (exceedance curves and averages), `pricing`
(a deal in, its price out). `tables` names the columns as Open Results Data does, `piwind` loads
published event losses, `synth` makes a book of deals on them, and `python -m model.price_book`
prices that book.

The library modules are pure functions over numpy arrays and know nothing of how they are mapped.
"""
