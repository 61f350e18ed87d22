"""Benchmarks: each file asks one question of fnmap and its peers, side by side in one run."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
