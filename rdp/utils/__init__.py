"""Helpers that know nothing of networks or studies."""
