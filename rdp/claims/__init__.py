"""Claims: what the papers say, as data, and what a study's records say of it."""
