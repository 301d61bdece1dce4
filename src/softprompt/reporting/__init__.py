"""Plots of what was measured."""

from softprompt.reporting.curves import draw_curves

__all__ = ["draw_curves"]
