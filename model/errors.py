"""The one error of the model."""

from __future__ import annotations


class ModelError(ValueError):
    """A wrong input. The message says where (deal, layer, event or row), what, and what to do."""
