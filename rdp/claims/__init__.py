"""Claims of the papers as data, and verdicts on them from a study's records."""
