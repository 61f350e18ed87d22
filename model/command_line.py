"""What the commands have in common: arguments that are told in one line when they are wrong."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """As argparse's, but brief."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line; argparse would print the whole usage above it."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def at_least(low: int) -> Callable[[str], int]:
    """An argparse type: a whole number >= `low`."""

    def whole(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {low}; got {text}")
        return int(text)

    return whole
