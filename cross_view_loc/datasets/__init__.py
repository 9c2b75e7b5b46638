"""Readers of public data sets as they lie on disk; training and evaluation both use them."""
