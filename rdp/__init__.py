"""A reproducible benchmark suite and paper pipeline for two papers on residual learning.

ResidualDroppath (arXiv 2411.09475) and the Plain Neural Net Hypothesis (arXiv 2402.08645).
"""
