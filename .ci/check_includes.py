#!/usr/bin/env python3
"""Checks that includes run down the house: no folder includes one that stands above it, and no folder includes the
private headers of another. Usage: check_includes.py [ROOT]. Exit code 1, with a line for each, if some do."""

import pathlib
import re
import sys

# From the bottom to the top. A new folder of the house gets its place here.
HOUSE = ("kernels/math", "kernels", "base", "graph", "ops", "passes", "plan", "exec", "comm", "formats", "report", "data",
         "nn", "models", "train", "infer", "job", "store", "launcher", "service", "tools")
LIBRARY = "include/trivet/trivet.h"  # the library in one include, for programs outside of the house
HEIGHT = {folder: height for height, folder in enumerate(HOUSE)}

TOPS = ("kernels", "runtime", "scheduler", "include", "tools")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path):
    """The folder of the house that a path from the root, or an included name, belongs to; None if it is outside."""
    parts = pathlib.PurePosixPath(path).parts
    if parts[0] == "include":
        parts = parts[1:]
    if parts[0] == "kernels":
        return "kernels/math" if parts[1:2] == ("math",) else "kernels"
    if parts[0] == "tools":
        return "tools"
    if parts[0] in ("runtime", "scheduler", "trivet") and len(parts) > 2:
        return parts[1]
    return None


def fault(includer, bracket, name):
    """What is wrong with this include, or None. `includer` is a path from the root."""
    own = folder_of(includer)
    other = folder_of(name)
    public = name.startswith("trivet/")
    if other is None:
        if bracket == "<":
            return None  # a header of the system or of another library
        return f"write it from the root of the repository, as \"{pathlib.PurePosixPath(includer).parent}/{name}\""
    if other not in HEIGHT:
        return f"the house has no folder {other}; its folders are listed in .ci/check_includes.py"
    if HEIGHT[other] > HEIGHT[own]:
        return f"{other} stands above {own}"
    if not public and other != "kernels/math":
        if includer.startswith("include/"):
            return "a public header cannot need a private one"
        if other != own:
            return f"this header is private to {pathlib.PurePosixPath(name).parent}"
    return None


def check(root):
    """One line for each fault, in the order of files and lines; and the number of files read."""
    faults = []
    files = sorted(file for top in TOPS for file in (root / top).rglob("*") if file.suffix in (".h", ".cpp", ".cu"))
    for file in files:
        path = file.relative_to(root).as_posix()
        parent = pathlib.PurePosixPath(path).parent
        if path == LIBRARY:
            continue
        if folder_of(path) not in HEIGHT:
            faults.append(f"{path}:1: {parent} is no folder of the house; they are listed in .ci/check_includes.py")
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            wrong = match and fault(path, *match.groups())
            if wrong:
                faults.append(f"{path}:{number}: {parent} includes {match.group(2)}: {wrong}")
    return faults, len(files)


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    faults, files = check(root)
    if files == 0:
        faults.append(f"{root}: there are no source files")
    for line in faults:
        print(line)
    if not faults:
        print(f"All includes of {files} files run down the house.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
