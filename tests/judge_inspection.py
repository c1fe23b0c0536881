#!/usr/bin/env python3
"""Judges a recipe for inspection on textures, on drawn parts and on frames that must never pass.

    .venv/bin/python tests/judge_inspection.py --out judged --seeds 3 -- --max-steps 1200

For each family and seed: draws the pictures, trains, calibrates, scores, and prints what came of it as
Markdown. Words after -- go to `convae train`. With --out a training that is there is not repeated while
the recipe and these words stay, so that a change of the scorer trains nothing. Asserts nothing.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

from convae_program import Program, read_csv, source_dir
from drawn_defects import KINDS
from inspection_parts import FRAMES, SHAPES, make_frames, make_part_frames, make_parts
from inspection_textures import TEXTURES, make_texture

HOUR = 3600


def say(text):
    print(f"judge: {text}", file=sys.stderr, flush=True)


def pictures(out, family, seed):
    """The family's set and its frames, drawn where they are not there yet."""
    root, frames = out / "data" / family, out / "frames" / family
    if not frames.is_dir():
        if family in SHAPES:
            make_part_frames(frames, family, make_parts(root, family, seed) / "test/good", seed=seed)
        else:  # a turned texture may be as good as before
            good = make_texture(root, family, seed) / "test/good"
            make_frames(frames, good, seed=seed, kinds=[kind for kind in FRAMES if kind != "turned"])
    return root, frames


def trained(program, out, family, root, seed, arguments):
    """The run, from this or an earlier call."""
    run, note = out / "runs" / family, out / f"{family}.recipe"
    recipe = "\n".join([arguments.config.read_text(), *arguments.train])
    if not note.exists() or note.read_text() != recipe:
        say(f"training on {family}, seed {seed}")
        note.unlink(missing_ok=True)
        shutil.rmtree(run, ignore_errors=True)
        program.run("train", "--config", arguments.config, "--data", root, "-o", out / "runs", "--name", family,
                    "--seed", seed, "--quiet", "--threads", arguments.threads, *arguments.train,
                    cwd=out, timeout=HOUR)
        note.write_text(recipe)
    return run


def scored(program, out, run, data, name, arguments):
    """summary.json and the rows of scores.csv."""
    scores = out / "scores" / name
    program.run("score", "--checkpoint", run, "--data", data, "-o", scores, "--fpr", arguments.fpr, "--overwrite",
                "--heat-maps", "false", "--quiet", "--threads", arguments.threads, cwd=out, timeout=HOUR)
    return json.loads((scores / "summary.json").read_text()), read_csv(scores / "scores.csv")


def judge(program, out, family, seed, arguments):
    """What one training reaches: measures by name, and the share found of each kind of frame."""
    out.mkdir(parents=True, exist_ok=True)
    root, frames = pictures(out, family, seed)
    run = trained(program, out, family, root, seed, arguments)
    program.run("calibrate", "--checkpoint", run, "--quiet", "--threads", arguments.threads, cwd=out, timeout=HOUR)
    summary, _ = scored(program, out, run, root, family, arguments)
    _, rows = scored(program, out, run, frames, f"{family} frames", arguments)
    measures = {"AUROC": summary["image_auroc"], "PRO": summary["pro"],
                "false alarms": summary["false_positive_rate"]}
    measures |= {name.replace("_", " "): control["image_auroc"] for name, control in summary["controls"].items()}
    measures |= {kind: summary["kinds"][kind]["image_auroc"] for kind in KINDS}
    found = {}
    for row in rows:
        found.setdefault(row["path"].split("/")[0], []).append(int(row["anomalous"]))
    return measures, {kind: statistics.mean(verdicts) for kind, verdicts in found.items()}


def mean(results, key):
    """Mean over the seeds, with the least and the greatest where there are several."""
    values = [result[key] for result in results if key in result]
    if not values:
        return "-"
    text = f"{statistics.mean(values):.3f}"
    return text if len(values) == 1 else f"{text} ({min(values):.2f}–{max(values):.2f})"


def print_table(title, columns, families):
    """A row a measure, a column a family."""
    keys = list(dict.fromkeys(key for results in columns for result in results for key in result))
    print(f"\n| {title} | {' | '.join(families)} |\n|---|{'---|' * len(families)}")
    for key in keys:
        print(f"| {key} | {' | '.join(mean(results, key) for results in columns)} |")


def parse():
    root = source_dir()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convae", default=os.environ.get("CONVAE", root / "build/release/bin/convae"))
    parser.add_argument("--config", type=pathlib.Path, default=root / "configs/inspect.toml", help="the recipe")
    parser.add_argument("--out", type=pathlib.Path, help="keep pictures, runs and scores here")
    parser.add_argument("--families", nargs="+", choices=TEXTURES + SHAPES, default=TEXTURES + SHAPES)
    parser.add_argument("--seeds", type=int, default=1, help="trainings a family, each with pictures of its own")
    parser.add_argument("--fpr", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("train", nargs="*", help="after --: more words for convae train")
    return parser.parse_args()


def main():
    arguments = parse()
    os.environ["CONVAE"] = str(arguments.convae)
    arguments.config = arguments.config.resolve()
    program = Program()
    with tempfile.TemporaryDirectory(prefix="judge_inspection.") as scratch:
        out = (arguments.out or pathlib.Path(scratch)).resolve()
        results = [[judge(program, out / f"seed{seed}", family, seed, arguments) for seed in range(arguments.seeds)]
                   for family in arguments.families]
    for title, part in (("measure", 0), (f"frames found at --fpr {arguments.fpr}", 1)):
        print_table(title, [[result[part] for result in family] for family in results], arguments.families)


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:  # a call of the program that failed, with what it said
        raise SystemExit(f"judge: {error}")
