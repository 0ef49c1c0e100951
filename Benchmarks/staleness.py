#!/usr/bin/env python3
"""Samples and time to a fixed validation loss, by staleness, on a small real network: the question of the paper's Fig. 15.

Usage: Benchmarks/staleness.py [--geeps PATH] [--seeds N] [--only PART] [--output FILE] [--resume]
       Benchmarks/staleness.py --draw RESULT.json [--images DIRECTORY]

Four workers train Examples/digits.yaml. Their layers take a fixed time (`emulate`), most of it asleep, so that four processes
on few cores run as four machines would. Three parts: `even`, all clocks take the same; `turns`, in each clock another
worker takes longer; `slow`, one worker always does. Rank 0 measures the test half every few clocks; the loss of a run is
smoothed over three of these. `even` has staleness 0, 1, 3 and async, with and without the refresh of rows before they are
lent, and runs to its last clock; the others end when the loss is reached. All curves are kept in the output file.
"""
import argparse, datetime, json, os, pathlib, platform, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Benchmarks/cluster"))
from draw import BLUE, BROWN, GREEN, GREY, Picture  # noqa: E402

WORKERS, BATCH = 4, 16
CLOCK, DELAY = "12ms", "36ms"
EVERY = 10
PARTS = {
    "even": f"{{clock: {CLOCK}}}",
    "turns": f"{{clock: {CLOCK}, delay: {DELAY}, delayed: turns}}",
    "slow": f"{{clock: {CLOCK}, delay: {DELAY}, delayed: 3}}",
}
STALENESS = ["0", "1", "3", "async"]
# Validation loss that is to be reached.
TARGET = 0.15
# The paper's Fig. 15, AdamLike on 8 machines: millions of images to 10 % top-1 accuracy.
PAPER = {"0": 10.8, "1": 20.6, "async": 32}


def cases(part):
    for staleness in STALENESS:
        # Staleness that is bounded goes at the pace of the slowest, whatever the bound.
        if part == "slow" and staleness == "3":
            continue
        for refresh in [True, False] if part == "even" and staleness != "0" else [True]:
            yield part, staleness, refresh


def train(geeps, part, staleness, refresh, seed, steps, rate, momentum):
    """The validations of one run."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "cluster.workers": WORKERS, "consistency.staleness": staleness, "consistency.refresh": str(refresh).lower(),
            "train.steps": steps, "train.seed": seed, "train.validate_every": EVERY, "data.batch_size": BATCH,
            "emulate": PARTS[part], "optimizer.lr": rate, "optimizer.momentum": momentum,
            "output.directory": folder}
        command = [geeps, "train", ROOT / "Examples/digits.yaml", "--quiet", "--json"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        process = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline, is_enough = time.time() + 300, False
        while process.poll() is None and not is_enough:
            time.sleep(0.1)
            if time.time() > deadline:
                process.kill()
            is_enough = part != "even" and reached({"curve": validations(folder)}, TARGET) is not None
        if is_enough:
            process.terminate()
        error = process.communicate()[1]
        if process.returncode != 0 and not is_enough:
            raise RuntimeError(f"{command}: code {process.returncode}: {error}")
        return validations(folder)


def validations(folder):
    """Samples that all workers have seen by then, if all are as far as rank 0; loss, accuracy, seconds."""
    path = pathlib.Path(folder, "metrics.jsonl")
    # The last line may be half written.
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [
        [line["step"] * WORKERS * BATCH, line["test_loss"], line["test_accuracy"], round(line["seconds"], 4)]
        for line in lines if line.get("event") == "validation"]


def smoothed(curve):
    """Samples, mean loss of this and the two validations before it, seconds."""
    losses = [point[1] if point[1] is not None else float("inf") for point in curve]
    return [(curve[i][0], statistics.fmean(losses[max(0, i - 2):i + 1]), curve[i][3]) for i in range(len(curve))]


def reached(run, target):
    """Samples and seconds at which the loss is at the target; None where it never is."""
    return next(((samples, seconds) for samples, loss, seconds in smoothed(run["curve"]) if loss <= target), None)


def grouped(result):
    groups = {}
    for run in result["runs"]:
        groups.setdefault((run["part"], run["staleness"], run["refresh"]), []).append(run)
    return groups


def spread(values, digits):
    """Median, least and most; of an even number the upper of the two in the middle. None, never, is the largest."""
    ordered = sorted(values, key=lambda value: (value is None, value))
    text = ["never" if value is None else f"{value:,.{digits}f}" for value in (ordered[len(ordered) // 2], ordered[0], ordered[-1])]
    return f"{text[0]} ({text[1]} to {text[2]})"


def tables(result):
    groups = grouped(result)
    for part in PARTS:
        if not any(key[0] == part for key in groups):
            continue
        print(f"\n{part}\n")
        print("| staleness | refresh | samples to the loss | over BSP | ms a clock | seconds to the loss | over BSP | the paper's images, over BSP |")
        print("|---|---|---|---|---|---|---|---|")
        base = None
        for _, staleness, refresh in cases(part):
            runs = groups.get((part, staleness, refresh))
            if not runs:
                continue
            found = [reached(run, result["target"]) for run in runs]
            samples, seconds = [f and f[0] for f in found], [f and f[1] for f in found]
            clocks = [run["curve"][-1][3] / (run["curve"][-1][0] / WORKERS / BATCH) * 1e3 for run in runs]
            middle = [sorted(values, key=lambda v: (v is None, v))[len(values) // 2] for values in (samples, seconds)]
            base = base or middle
            over = [f"{value / first:.2f}x" if value else "-" for value, first in zip(middle, base)]
            paper = f"{PAPER[staleness] / PAPER['0']:.1f}x" if staleness in PAPER else "-"
            print(f"| {staleness} | {'yes' if refresh else 'no'} | {spread(samples, 0)} | {over[0]} | {spread(clocks, 1)} | "
                  f"{spread(seconds, 2)} | {over[1]} | {paper if refresh and part == 'even' else '-'} |")


def middle_curve(runs, axis):
    """Of all runs, the median of the smoothed loss at each validation, over samples (0) or median seconds (2)."""
    curves = [smoothed(run["curve"]) for run in runs]
    count = sorted(map(len, curves))[len(curves) // 2]
    points = list(zip(*(extended(curve, count) for curve in curves)))
    return [(statistics.median(p[axis] for p in same), statistics.median(p[1] for p in same)) for same in points]


def extended(curve, count):
    """`count` points: a run that ended at the target stays at its last loss and goes on at its pace."""
    samples, loss, seconds = curve[-1]
    further = range(len(curve) + 1, count + 1)
    return curve[:count] + [(samples * n / len(curve), loss, seconds * n / len(curve)) for n in further]


def draw(result, directory):
    groups = grouped(result)
    colors = {"0": BLUE, "1": GREEN, "3": BROWN, "async": GREY}
    views = [("even", 0, "samples", "samples"), ("turns", 2, "seconds, another worker delayed in each clock", "turns"),
             ("slow", 2, "seconds, one worker four times as slow", "slow")]
    for part, axis, words, name in views:
        curves = {key: middle_curve(runs, axis) for key, runs in groups.items() if key[0] == part}
        if not curves:
            continue
        picture = Picture(
            f"Validation loss over {words}", f"digits, {WORKERS} workers; medians of {result['seeds']} seeds."
            + (" Dashed: without refresh" if part == "even" else ""))
        right = max(max(x for x, _ in curve) for curve in curves.values())
        top, least = 2.4, 0.04

        def at(x, loss):
            import math
            loss = min(max(loss, least), top)
            return 64 + x / right * 620, 392 - (math.log(loss) - math.log(least)) / (math.log(top) - math.log(least)) * 326
        for tick in (0.05, 0.1, 0.2, 0.5, 1, 2):
            y = at(0, tick)[1]
            picture.line(64, y, 684, y)
            picture.text(56, y + 4, str(tick), "end")
        y = at(0, result["target"])[1]
        picture.line(64, y, 684, y, color="#cf222e", dash="2 3")
        for step in range(5):
            x = right * step / 4
            picture.text(at(x, 1)[0], 412, f"{x:,.0f}" if axis == 0 else f"{x:.1f}", "middle")
        row = 0
        for _, staleness, refresh in cases(part):
            points = curves.get((part, staleness, refresh))
            if not points:
                continue
            path = " ".join("{:.1f},{:.1f}".format(*at(x, loss)) for x, loss in points if x <= right * 1.001)
            dash = "" if refresh else "5 4"
            picture.lines.append(
                f'<polyline points="{path}" fill="none" stroke="{colors[staleness]}" stroke-width="2" stroke-dasharray="{dash}"/>')
            if refresh:
                picture.line(540, 74 + 20 * row, 570, 74 + 20 * row, colors[staleness], 2)
                picture.text(578, 78 + 20 * row, {"0": "BSP", "async": "async"}.get(staleness, f"staleness {staleness}"))
                row += 1
        picture.write(directory / f"staleness-{name}.svg")


def measure(options):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    path = pathlib.Path(options.output or ROOT / f"Benchmarks/results/staleness-{datetime.date.today()}-{commit}.json")
    result = {
        "schema": "geeps.benchmark.staleness/1", "date": str(datetime.date.today()), "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared", "job": "Examples/digits.yaml", "workers": WORKERS,
        "batch": BATCH, "lr": options.rate, "momentum": options.momentum, "clock": CLOCK, "delay": DELAY, "target": TARGET, "seeds": options.seeds, "runs": []}
    if options.resume and path.exists():
        result = json.loads(path.read_text())
        result["seeds"] = max(result["seeds"], options.seeds)
    # Seeds outermost: a stretch of a busy machine then touches every case alike.
    for seed in range(1, options.seeds + 1):
        for part in PARTS:
            if options.only and part != options.only:
                continue
            for part, staleness, refresh in cases(part):
                key = dict(part=part, staleness=staleness, refresh=refresh, seed=seed)
                if any(all(run[name] == value for name, value in key.items()) for run in result["runs"]):
                    continue
                start = time.time()
                curve = train(options.geeps, part, staleness, refresh, seed, options.steps, options.rate, options.momentum)
                result["runs"].append({**key, "load": round(os.getloadavg()[0], 2), "curve": curve})
                path.write_text(json.dumps(result) + "\n")
                print(f"{key}: target at {reached(result['runs'][-1], TARGET)}, last {curve[-1]}, {time.time() - start:.0f} s", flush=True)
    print(path)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geeps", default=ROOT / ".build/release/geeps")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.03, help="learning rate, the same at every staleness")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--output")
    parser.add_argument("--resume", action="store_true", help="keep what the output file has")
    parser.add_argument("--draw", help="draw this result instead of measuring")
    parser.add_argument("--images", default=ROOT / "docs/images", type=pathlib.Path)
    options = parser.parse_args()
    result = json.loads(pathlib.Path(options.draw).read_text()) if options.draw else measure(options)
    tables(result)
    if options.draw:
        draw(result, options.images)


if __name__ == "__main__":
    main()
