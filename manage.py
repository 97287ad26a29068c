#!/usr/bin/env python
"""Vanta's command line; `manage.py help` lists the commands."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
    from django.core.management import execute_from_command_line

    from ops.pipe import while_read

    with while_read():
        execute_from_command_line(sys.argv)
