#!/usr/bin/env python3
"""usage: check-circles.py BUILD-FOLDER | --self-test

Finds circles between files of src/: a circle is a set of files, each of which uses functions or data of the next one.
A file is a .c with the .h of its name. The object files of a build say what it defines and what it uses (nm).
The optimiser would leave out calls, so the build is one without it (scripts/build.sh lint).

--self-test compiles a small example with a circle instead, and fails unless the circle is found.
"""
import json
import os
import subprocess
import sys
import tempfile


def symbols_of(path):
    """The names that an object file defines for other files, and those that it takes from other files."""
    defined, used = set(), set()
    output = subprocess.run(["nm", "-P", path], check=True, capture_output=True, text=True).stdout
    for line in output.splitlines():
        name, kind = line.split()[:2]
        if kind == "U":
            used.add(name)
        elif kind.isupper():
            defined.add(name)
    return defined, used


def uses_of(objects):
    """{file: {other file: names that it uses of it}} of {file: path of its object file}."""
    symbols = {file: symbols_of(path) for file, path in objects.items()}
    home = {name: file for file, (defined, _) in symbols.items() for name in defined}
    uses = {file: {} for file in objects}
    for file, (_, used) in symbols.items():
        for name in used:
            if name in home and home[name] != file:
                uses[file].setdefault(home[name], set()).add(name)
    return uses


def circles_in(uses):
    """The strongly connected components of more than one file (Tarjan's algorithm), each sorted."""
    index, low, stack, circles = {}, {}, [], []

    def visit(file):
        index[file] = low[file] = len(index)
        stack.append(file)
        for other in uses[file]:
            if other not in index:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], index[other])
        if low[file] == index[file]:
            at = stack.index(file)
            circle = sorted(stack[at:])
            del stack[at:]
            if len(circle) > 1:
                circles.append(circle)

    for file in sorted(uses):
        if file not in index:
            visit(file)
    return sorted(circles)


def report(uses, circles):
    for circle in circles:
        print(f"a circle of {len(circle)} files:")
        for file in circle:
            for other in sorted(set(uses[file]) & set(circle)):
                names = sorted(uses[file][other])
                more = f" and {len(names) - 4} more" if len(names) > 4 else ""
                print(f"  {file} uses {', '.join(names[:4])}{more} of {other}")


def objects_of(folder):
    """{file: path of its object file} of the files of src/ that a build folder of meson has."""
    with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as database:
        commands = json.load(database)
    objects = {}
    for command in commands:
        file = os.path.relpath(os.path.join(command["directory"], command["file"]))
        if file.startswith("src/"):
            objects[file] = os.path.join(command["directory"], command["output"])
    return objects


def self_test():
    sources = {
        "low.c": "int low(void); int low(void) { return 1; }",
        "first.c": "int low(void), second(void), first(void); int first(void) { return low() + second(); }",
        "second.c": "extern int third; int second(void); int second(void) { return third; }",
        "third.c": "int first(void); int third; int again(void); int again(void) { return first(); }",
        "top.c": "int first(void), top(void); int top(void) { return first(); }",
    }
    with tempfile.TemporaryDirectory() as folder:
        objects = {}
        for name, text in sources.items():
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as source:
                source.write(text)
            subprocess.run(["cc", "-c", path, "-o", path + ".o"], check=True)
            objects[name] = path + ".o"
        found = circles_in(uses_of(objects))
        del objects["second.c"]
        rest = circles_in(uses_of(objects))
    if found != [["first.c", "second.c", "third.c"]] or rest != []:
        sys.exit(f"check-circles.py: its own example has one circle of three files; it found {found} and {rest}")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check-circles.py BUILD-FOLDER | --self-test")
    if sys.argv[1] == "--self-test":
        self_test()
        return
    uses = uses_of(objects_of(sys.argv[1]))
    if not uses:
        sys.exit(f"check-circles.py: {sys.argv[1]} has no objects of src/")
    circles = circles_in(uses)
    report(uses, circles)
    sys.exit(1 if circles else 0)


main()
