#!/usr/bin/env python
"""Django's command line; `./dev.py manage ...` runs it with the embedded servers."""

import os
import sys

FOR_THE_CHECKOUT = ("makemigrations", "makemessages", "compilemessages")  # they write no state


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.core.management import execute_from_command_line

    from portal.private import keep_private

    if sys.argv[1:2] not in ([name] for name in FOR_THE_CHECKOUT):
        keep_private()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
