"""Deterministic simulation: the real runtime on memory adapters, in virtual time, its order and faults from a seed."""

from __future__ import annotations

from torpor.testing.simulation.run import Report, simulate
from torpor.testing.simulation.world import Parts

__all__ = ["Parts", "Report", "simulate"]
