#!/usr/bin/env python3
"""Draws what run.py measured beside the paper's figures, and prints tables for docs/performance.md.

Usage: Benchmarks/cluster/draw.py RESULT.json [--images DIRECTORY]
"""
import argparse, json, math, pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MACHINES = [1, 2, 4, 8, 16]
# Digitised from Fig. 8 of Cui et al., EuroSys 2016: images a second on 1, 2, 4, 8 and 16 machines.
PAPER = {
    "adamlike": {"geeps": [94.4, 179, 358, 678, 1346], "cpu": [38.6, 77.1, 148, 278, 512], "gpu": 102.6, "stall": (8, 65)},
    "googlenet": {"geeps": [57.3, 113, 222, 443, 870], "cpu": [36.7, 71.1, 140, 275, 519], "gpu": 66.7, "stall": (8, 51)},
}
# Fig. 14, AdamLike on 8 machines: seconds of compute and of stall a clock, for slack 0, 1 and none.
PAPER_SLACK = {
    "a table per layer": [(2.15, 0.22), (2.26, 0.03), (2.25, 0.03)],
    "one table": [(2.08, 1.66), (2.40, 0.23), (2.27, 0.23)],
    "cpu-side, the paper's copies": [(2.08, 3.73), (2.14, 3.27), (2.14, 3.25)],
}
KEY = ("part", "label", "file", "workers", "staleness", "layers_per_table")
SLACKS = ["0", "1", "async"]
TITLES = {"adamlike": "AdamLike", "googlenet": "GoogLeNet"}
BLUE, BROWN, GREY, GREEN = "#0b5fa5", "#8c6d1f", "#6e7781", "#2f7d4f"


class Picture:
    """An SVG of 720 by 440."""

    def __init__(self, title, subtitle):
        self.lines = [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 440" width="720" height="440" '
            'font-family="sans-serif" font-size="13" fill="#24292f">', '<rect width="720" height="440" fill="#ffffff"/>']
        self.text(64, 24, title, size=15)
        self.text(64, 43, subtitle, color="#57606a")

    def text(self, x, y, words, anchor="start", size=13, color="#24292f"):
        words = words.replace("&", "&amp;").replace("<", "&lt;")
        self.lines.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{words}</text>')

    def line(self, x1, y1, x2, y2, color="#d0d7de", width=1.0, dash=""):
        self.lines.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}" '
            f'stroke-dasharray="{dash}"/>')

    def curve(self, points, color, dash=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.lines.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>')
        if dash == "":
            self.lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{color}"/>' for x, y in points]

    def box(self, x, y, width, height, color):
        self.lines.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>')

    def write(self, path):
        path.write_text("\n".join(self.lines + ["</svg>"]) + "\n")
        print(path)


def medians(runs):
    """Of each case the run whose clock is the middle one; of an even number the slower of the two."""
    cases = {}
    for run in runs:
        cases.setdefault(tuple(run[name] for name in KEY), []).append(run)
    chosen = []
    for same in cases.values():
        same.sort(key=lambda run: run["clock_seconds"])
        chosen.append(dict(same[len(same) // 2], count=len(same), clocks_of_runs=[r["clock_seconds"] for r in same]))
    return chosen


def measured(result, part, label, workload, group=None):
    """By workers; `group` layers a table, where there are several."""
    return {run["workers"]: run for run in result["runs"]
            if (run["part"], run["label"], run["file"]) == (part, label, workload)
            and group in (None, run["layers_per_table"])}


def scaling(result, workload, directory):
    """Speed-up over one worker of ours, and the paper's over its own, on logarithmic axes."""
    ours = measured(result, "scaling", "geeps", workload)
    copies = measured(result, "scaling", "cpu-side, the paper's copies", workload, "all")
    plain = measured(result, "scaling", "cpu-side", workload)
    if not ours:
        return
    picture = Picture(
        f"{TITLES[workload]}: images a second on 1 to 16 machines",
        "emulated cluster, 12 Gb/s a machine; the paper's curves are its own measurements (Fig. 8)")
    top = PAPER[workload]["gpu"] * 20
    least = min(PAPER[workload]["cpu"][0], *[run["samples_per_second"] for run in copies.values()], 1e9) * 0.85

    def x(machines):
        return 72 + math.log2(machines) / 4 * 620

    def y(rate):
        return 392 - (math.log(rate) - math.log(least)) / (math.log(top) - math.log(least)) * 326

    for tick in (20, 50, 100, 200, 500, 1000, 2000):
        if least <= tick <= top:
            picture.line(72, y(tick), 692, y(tick))
            picture.text(64, y(tick) + 4, str(tick), "end")
    for machines in MACHINES:
        picture.text(x(machines), 414, str(machines), "middle")
    picture.text(382, 432, "machines", "middle", color="#57606a")
    series = [
        ("GeePS, this repository", BLUE, "", {n: r["samples_per_second"] for n, r in ours.items()}),
        ("its forecast", BLUE, "2 3", {
            n: n * r["samples_per_second"] / n * r["clock_seconds"] / r["forecast_clock_seconds"] for n, r in ours.items()}),
        ("the paper's GeePS", GREY, "7 4", dict(zip(MACHINES, PAPER[workload]["geeps"]))),
        ("CPU-side mode, this repository", GREEN, "", {n: r["samples_per_second"] for n, r in plain.items()}),
        ("the same at the paper's copying speed", BROWN, "", {n: r["samples_per_second"] for n, r in copies.items()}),
        ("the paper's CPU-based server", BROWN, "7 4", dict(zip(MACHINES, PAPER[workload]["cpu"]))),
    ]
    row = 0
    for label, color, dash, values in series:
        if not values:
            continue
        picture.curve([(x(n), y(values[n])) for n in sorted(values)], color, dash)
        at = 84 + 20 * row
        picture.line(92, at - 4, 122, at - 4, color, 2, dash)
        picture.text(130, at, label)
        row += 1
    picture.write(directory / f"scaling-{workload}.svg")


def slack(result, directory):
    """Compute and stall of a clock, for every slack, beside the paper's."""
    runs = [run for run in result["runs"] if run["part"] == "slack"]
    if not runs:
        return
    picture = Picture(
        "AdamLike on 8 machines: seconds of a clock, by slack",
        "below each pair: slack. Dark: compute; light: stall. Blue: this repository; grey: the paper's Fig. 14")
    labels = ["a table per layer", "one table", "cpu-side, the paper's copies", "cpu-side"]
    most = 6.5

    def y(seconds):
        return 380 - seconds / most * 300

    for tick in range(0, 7):
        picture.line(64, y(tick), 700, y(tick))
        picture.text(56, y(tick) + 4, f"{tick} s", "end")
    at = 76
    for label in labels:
        start = at
        for index, value in enumerate(SLACKS):
            found = [run for run in runs if run["label"] == label and run["staleness"] == value
                     and (label != "cpu-side, the paper's copies" or run["layers_per_table"] == "all")]
            paper = PAPER_SLACK.get(label)
            if not found and not paper:
                continue
            first = at
            for seconds, dark, light in (
                [((r["compute_seconds"], r["clock_seconds"] - r["compute_seconds"]), BLUE, "#a9cbe8") for r in found[:1]]
                + ([(paper[index], GREY, "#d0d7de")] if paper else [])):
                compute, stall = seconds
                picture.box(at, y(compute), 18, 380 - y(compute), dark)
                picture.box(at, y(compute + max(0, stall)), 18, y(compute) - y(compute + max(0, stall)), light)
                at += 20
            picture.text((first + at - 2) / 2, 396, "none" if value == "async" else value, "middle", 11)
            at += 8
        picture.text((start + at - 8) / 2, 414, label.split(",")[0].replace("cpu", "CPU"), "middle", 12)
        picture.text((start + at - 8) / 2, 429, label.partition(", ")[2], "middle", 12)
        at += 34
    picture.write(directory / "slack.svg")


def tables(result):
    for workload in ("adamlike", "googlenet"):
        ours = measured(result, "scaling", "geeps", workload)
        copies = measured(result, "scaling", "cpu-side, the paper's copies", workload, "all")
        plain = measured(result, "scaling", "cpu-side", workload)
        if not ours:
            continue
        paper = PAPER[workload]
        print(f"\n{TITLES[workload]}\n")
        print("| machines | images/s | over one device | stall | forecast of the clock | CPU-side, the paper's copies | CPU-side, 6 GB/s "
              "| the paper: GeePS | the paper: CPU-based | bytes each way over 2 (N - 1) / N | cores |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for index, n in enumerate(MACHINES):
            if n not in ours:
                continue
            run = ours[n]
            # What one device computes that never waits.
            over = f"{n * run['compute_seconds'] / run['clock_seconds']:.2f}x"
            wire = f"{run['wire_over_ideal']:.4f}" if run["wire_over_ideal"] else "-"
            forecast = run["forecast_clock_seconds"] / run["clock_seconds"] - 1

            def other(runs):
                if n not in runs:
                    return ""
                rate = runs[n]["samples_per_second"]
                return f"{rate:.1f} (stall {runs[n]['stall'] * 100:.0f} %, {run['samples_per_second'] / rate:.2f}x)"

            print(f"| {n} | {run['samples_per_second']:.1f} | {over} | {run['stall'] * 100:.1f} % | {forecast * 100:+.1f} % | "
                  f"{other(copies)} | {other(plain)} | {paper['geeps'][index]} | {paper['cpu'][index]} | {wire} | "
                  f"{run['cpu_share'] * 100:.0f} % |")
    print("\nSlack, AdamLike on 8 machines\n")
    print("| | slack | clock | stall | forecast of the clock | the paper: compute + stall |")
    print("|---|---|---|---|---|---|")
    for run in result["runs"]:
        if run["part"] == "slack":
            paper = PAPER_SLACK.get(run["label"])
            pair = paper[SLACKS.index(run["staleness"])] if paper else None
            text = f"{pair[0]:.2f} + {pair[1]:.2f} s" if pair else "-"
            error = run["forecast_clock_seconds"] / run["clock_seconds"] - 1
            group = "one table" if run["layers_per_table"] == "all" else "a table per layer"
            label = run["label"] if "table" in run["label"] else f"{run['label']}, {group}"
            print(f"| {label} | {run['staleness']} | {run['clock_seconds']:.2f} s | "
                  f"{run['clock_seconds'] - run['compute_seconds']:.2f} s | {error * 100:+.1f} % | {text} |")
    for part in ("video", "grouping"):
        for run in result["runs"]:
            if run["part"] == part:
                error = run["forecast_clock_seconds"] / run["clock_seconds"] - 1
                print(f"{part}: {run['file']}, {run['workers']} workers, {run['layers_per_table']} layers a table: "
                      f"{run['samples_per_second']:.2f} samples/s, stall {run['stall'] * 100:.1f} %, forecast {error * 100:+.1f} %")
    for run in result["runs"]:
        if run["count"] > 1:
            print(f"{run['file']}, {run['label']}, {run['workers']} workers, {run['staleness']}, {run['layers_per_table']}: "
                  f"clocks of {run['count']} runs {[round(clock, 3) for clock in sorted(run['clocks_of_runs'])]}")
    errors = [abs(run["forecast_clock_seconds"] / run["clock_seconds"] - 1) for run in result["runs"]]
    print(f"\nforecast errors: most {max(errors) * 100:.1f} %, mean {sum(errors) / len(errors) * 100:.1f} %, {len(errors)} runs")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result")
    parser.add_argument("--images", default=ROOT / "docs/images")
    options = parser.parse_args()
    result = json.loads(pathlib.Path(options.result).read_text())
    result["runs"] = medians(result["runs"])
    directory = pathlib.Path(options.images)
    for workload in ("adamlike", "googlenet"):
        scaling(result, workload, directory)
    slack(result, directory)
    tables(result)


if __name__ == "__main__":
    main()
