#!/usr/bin/env python3
"""usage: reference.py TABLES CONFIGURATION APPS FOLDER

Writes the manual pages curlew.1 and curlew.json.5 and the completions of bash, zsh and fish into FOLDER. TABLES is the
output of tables.c. CONFIGURATION and APPS are pages of docs/, which say what each setting and each field means.
"""

import json
import pathlib
import sys

import completions
import man_pages
import usage


def main():
    tables_path, configuration_path, apps_path, folder = map(pathlib.Path, sys.argv[1:])
    tables = json.loads(tables_path.read_text())
    commands = usage.read_commands(tables["commands"])
    words = [field["name"] for field in tables["fields"]], tables["events"]
    texts = {
        "curlew.1": man_pages.command_page(tables, commands),
        "curlew.json.5": man_pages.settings_page(tables, configuration_path.read_text(), apps_path.read_text()),
        "curlew.bash": completions.bash(commands, *words),
        "_curlew": completions.zsh(commands, *words),
        "curlew.fish": completions.fish(commands, *words),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)


main()
