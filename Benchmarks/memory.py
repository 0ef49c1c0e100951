#!/usr/bin/env python3
"""Measures training under device memory budgets on an emulated GPU, and draws the curves.

Usage: Benchmarks/memory.py [--geeps PATH] [--rounds N] [--output FILE] [--svg FILE] [--quick]

AdamLike of the paper (section 5.1) with the compute times of a Tesla K20C and a link of 6 GB/s: throughput against
budget (its Fig. 12), for our placement and for the paper's, in turn at every budget; the same work in 2 and 4
mini-batches a clock; and stacks of linear layers whose parameters are 1 to 8 times the budget (Fig. 13).
"""
import argparse, datetime, json, pathlib, platform, statistics, subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Gigabytes; the last holds everything that is worth keeping.
BUDGETS = [0.82, 0.9, 1.0, 1.15, 1.3, 1.5, 1.66, 1.9, 2.38, 3.11, 3.94, 4.91]
# Fig. 12, batch 200, 8 machines: gigabytes, images/s. Digitised from the paper, not measured here.
PAPER = [(1.75, 493), (2.38, 563), (3.11, 615), (3.94, 678), (4.91, 679)]
STACKS = [8, 16, 32, 64]


def call(geeps, *arguments):
    command = [str(geeps), "bench", "memory", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    if done.returncode != 0:
        # A budget below the least of a policy is a result too.
        return {"refused": done.stderr.strip()}
    return json.loads(done.stdout.strip().splitlines()[-1])


def curve(geeps, rounds, budgets, batches):
    rows = []
    for budget in budgets:
        runs = {"benefit": [], "paper": []}
        last = {}
        for _ in range(rounds):
            for policy in runs:
                answer = call(
                    geeps, "--budget", f"{budget}GB", "--policy", policy, "--batches-per-clock", batches,
                    "--time-scale", 1, "--clocks", 3)
                if "refused" in answer:
                    last[policy] = answer
                    continue
                last[policy] = answer["points"][0]
                last[policy]["full_bytes"] = answer["full_bytes"]
                last[policy]["least_bytes"] = answer["least_bytes"]
                runs[policy].append(answer["points"][0]["efficiency"])
        row = {"budget_gb": budget, "batches_per_clock": batches}
        for policy, values in runs.items():
            row[policy] = dict(last[policy])
            if values:
                row[policy]["efficiency"] = statistics.median(values)
                row[policy]["efficiency_runs"] = values
        rows.append(row)
        text = "  ".join(f"{p} {statistics.median(v):.3f}" for p, v in runs.items() if v)
        print(f"{budget:5.2f} GB, {batches} mini-batch(es) a clock: {text}", flush=True)
    return rows


def stacks(geeps, rounds, counts):
    rows = []
    for count in counts:
        runs, last = [], None
        for _ in range(rounds):
            answer = call(
                geeps, "--workload", f"linear:{count}", "--budget", "3GB", "--bytes-scale", 128, "--time-scale",
                8, "--clocks", 3)
            last = answer["points"][0]
            runs.append(last["connections_per_second"])
        rows.append({
            "layers": count, "parameter_gb": answer["parameter_bytes"] / 1e9, "budget_gb": 3,
            "connections_per_second": statistics.median(runs), "runs": runs,
            "efficiency": last["efficiency"], "bytes_in": last["bytes_in"], "bytes_out": last["bytes_out"]})
        print(
            f"{count} linear layers, {rows[-1]['parameter_gb']:.1f} GB of parameters on 3 GB: "
            f"{rows[-1]['connections_per_second'] / 1e9:.0f} G connections/s", flush=True)
    return rows


def drawing(result):
    """Budget against share of full speed, as SVG."""
    left, right, top, bottom, width, height = 64, 24, 60, 60, 720, 420
    most, least = 5.2, 0.5

    def x(gigabytes):
        return left + gigabytes / most * (width - left - right)

    def y(share):
        return top + (1.02 - share) / (1.02 - least) * (height - top - bottom)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13" fill="#24292f">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{left}" y="24" font-size="15">AdamLike on an emulated K20C: speed against device memory</text>',
        f'<text x="{left}" y="42" fill="#57606a">share of the speed with all compute and no stall; 6 GB/s link</text>',
    ]
    for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        lines.append(f'<line x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#d0d7de"/>')
        lines.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick * 100:.0f} %</text>')
    for tick in range(0, 6):
        lines.append(f'<text x="{x(tick):.1f}" y="{height - bottom + 22}" text-anchor="middle">{tick} GB</text>')

    def series(points, color, label, dash="", row=0):
        path = " ".join(f"{x(a):.1f},{y(max(b, least)):.1f}" for a, b in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>')
        for a, b in points:
            lines.append(f'<circle cx="{x(a):.1f}" cy="{y(max(b, least)):.1f}" r="3.2" fill="{color}"/>')
        at = height - bottom - 78 + 20 * row
        lines.append(f'<line x1="390" x2="420" y1="{at - 4}" y2="{at - 4}" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>')
        lines.append(f'<text x="428" y="{at}">{label}</text>')

    def points(policy):
        return [(r["budget_gb"], r[policy]["efficiency"]) for r in result["curve"] if "efficiency" in r[policy]]

    series(points("benefit"), "#0b5fa5", "GeePS, this repository", row=0)
    series(points("paper"), "#8c6d1f", "the paper&#8217;s placement, run here", "6 4", row=1)
    full = PAPER[-1][1]
    series([(a, b / full) for a, b in PAPER], "#6e7781", "the paper&#8217;s Fig. 12 (its hardware)", "2 3", row=2)
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geeps", default=ROOT / ".build/release/geeps")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output")
    parser.add_argument("--svg", default=ROOT / "docs/images/memory-budget.svg")
    parser.add_argument("--quick", action="store_true", help="three budgets, one round, no drawing")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    result = {
        "schema": "geeps.benchmark.memory/1", "date": str(datetime.date.today()), "commit": commit,
        "machine": f"{platform.machine()}, {__import__('os').cpu_count()} cores", "rounds": options.rounds,
        "emulated": "Tesla K20C compute times, 6 GB/s each way; bytes and bandwidth divided by 32, times as they are",
    }
    if options.quick:
        result["curve"] = curve(options.geeps, 1, [0.82, 1.66, 4.91], 1)
        print(json.dumps(result))
        return
    result["curve"] = curve(options.geeps, options.rounds, BUDGETS, 1)
    result["cut"] = curve(options.geeps, 1, [0.82, 1.3, 1.66], 2) + curve(options.geeps, 1, [0.82, 1.3, 1.66], 4)
    result["stacks"] = stacks(options.geeps, 1, STACKS)
    path = pathlib.Path(options.output or ROOT / f"Benchmarks/results/memory-{result['date']}-{commit}.json")
    path.write_text(json.dumps(result, indent=1) + "\n")
    pathlib.Path(options.svg).write_text(drawing(result))
    print(path)


if __name__ == "__main__":
    main()
