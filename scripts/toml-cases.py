#!/usr/bin/env python3
"""Fetches the public cases of TOML 1.0, the data files of the Go module toml-test, to tests/toml/cases/.

They come from the Go module proxy (GOPROXY, if it is set), once for each version, and need no Go.
"""
import base64
import hashlib
import io
import os
import pathlib
import shutil
import sys
import urllib.request
import zipfile

MODULE = "github.com/toml-lang/toml-test/v2"
VERSION = "v2.2.0"
# The module's hash, as in a go.sum.
SUM = "h1:q3ELZu7oPnpl9TClC6OOcAccXwj+jwAyFP8WvzBdK1M="
CASES = pathlib.Path(__file__).resolve().parent.parent / "tests/toml/cases"


def fetch():
    proxy = os.environ.get("GOPROXY", "").replace("|", ",").split(",")[0]
    if not proxy.startswith("http"):
        proxy = "https://proxy.golang.org"
    with urllib.request.urlopen(f"{proxy}/{MODULE}/@v/{VERSION}.zip", timeout=120) as answer:
        return zipfile.ZipFile(io.BytesIO(answer.read()))


def module_sum(module):
    """The hash of a module's files: https://go.dev/ref/mod#go-sum-files, dirhash Hash1."""
    lines = [f"{hashlib.sha256(module.read(name)).hexdigest()}  {name}\n" for name in sorted(module.namelist())]
    return "h1:" + base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()


def main():
    stamp = CASES / ".version"
    if stamp.exists() and stamp.read_text() == SUM:
        print("TOML cases: ok")
        return
    print(f"TOML cases: fetching {MODULE} {VERSION} from the Go module proxy")
    module = fetch()
    if module_sum(module) != SUM:
        sys.exit(f"TOML cases: {MODULE} {VERSION} is not the module with the sum {SUM}")
    shutil.rmtree(CASES, ignore_errors=True)
    folder = f"{MODULE}@{VERSION}/tests/"
    for name in module.namelist():
        if name.startswith(folder):
            file = CASES / name[len(folder) :]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(module.read(name))
    stamp.write_text(SUM)


if __name__ == "__main__":
    main()
