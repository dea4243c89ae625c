"""``rdp store``: what is kept of runs, what nothing needs any more, and runs carried between sites."""
