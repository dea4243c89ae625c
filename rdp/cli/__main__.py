"""``python -m rdp.cli``: the ``rdp`` command of this very Python."""

from rdp.cli import main

if __name__ == "__main__":
    main()
