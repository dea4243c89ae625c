"""``rdp record`` and ``unpack``: recorded results, packed into a bundle and unpacked again (`rdp.recorded`)."""
