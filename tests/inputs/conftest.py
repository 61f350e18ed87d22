"""Programs for the tests, and a scratch directory that can be looked into."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The folder that relative paths are in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where commands have their scratch directories."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("FNMAP_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def program(here):
    """Write a shell program, and say how a command names it."""

    def program(text: str, name: str = "program") -> str:
        path = here / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return f"./{name}"

    return program
