#!/usr/bin/env python3
"""lobwife's commands: `manage.py help` lists them."""

import gc
import os
import sys


def main() -> None:
    if sys.argv[1:] in (["--version"], ["version"]):  # lobwife's, not Django's
        from lobwife import __version__

        print(__version__)
        return
    gc.disable()  # until the command is loaded: a tenth of a start went into looking at what is imported, which stays
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lobwife.settings")
    from core.processes import keep_files_private

    if sys.argv[1:2] not in (["makemigrations"], ["collectstatic"]):  # whose files are the source's and everybody's
        keep_files_private()
    from django.core.exceptions import ImproperlyConfigured
    from django.db.utils import OperationalError

    from lobwife.command_line import CommandLine

    try:
        CommandLine(sys.argv).execute()
    except ImproperlyConfigured as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    except OperationalError as error:
        if "--traceback" in sys.argv:
            raise
        from core.database.backend import in_words_for_the_console

        sys.exit(f"{sys.argv[0]}: {in_words_for_the_console(error)}")


if __name__ == "__main__":
    main()
