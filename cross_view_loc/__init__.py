"""Localize a vehicle by matching its camera images against an aerial image (Loc², arXiv 2509.09792)."""

__version__ = "0.1.0"
