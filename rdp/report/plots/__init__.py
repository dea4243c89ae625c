"""Plots: one function a figure, from a study's tables to a drawing and the data that are in it."""
