"""Figures, tables and the page: made from tables of records, never from models."""
