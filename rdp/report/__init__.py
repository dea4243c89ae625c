"""Figures, tables, page and paper of a study, made from tables of records only."""
