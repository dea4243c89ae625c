"""Stored runs, packed, carried, adopted and cleaned."""
