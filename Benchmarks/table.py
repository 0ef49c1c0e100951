#!/usr/bin/env python3
"""Prints a result file of run.py as the Markdown table of docs/performance.md.

Usage: Benchmarks/table.py RESULT.json
"""
import json, sys

from run import table


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    with open(sys.argv[1]) as file:
        result = json.load(file)
    print(
        f"{result['date']}, commit {result['commit']}, {result['cores']} cores of {result['cpu']}, load "
        f"{result['load']:.1f} at the end; medians of {result['rounds']} rounds. Ratios are medians over pairs.\n")
    print(table(result["rows"]))


if __name__ == "__main__":
    main()
