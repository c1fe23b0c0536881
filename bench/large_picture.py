#!/usr/bin/env python3
"""Puts a picture larger than memory through convae in tiles: makes a TIFF of 30,000 x 20,000 pixels with
a planted defect and its twin without, trains a small network on pieces of the same texture, and reports
peak memory and time of reconstruct and score, whether the reconstruction is that of an untiled cut, and
whether the defect is found. Needs numpy and tifffile; everything is made in --folder, about 12 GB."""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import time

import numpy as np
import tifffile

TILE = 256
DEFECT = 0.04  # of a side


def texture(top, left, height, width, seed):
    """(height, width, 3) uint8: woven threads with grain, as they are at that place."""
    y = np.arange(top, top + height, dtype=np.float32)[:, None]
    x = np.arange(left, left + width, dtype=np.float32)[None, :]
    threads = 0.5 + 0.14 * np.sin(x / 5.3 + 1.5 * np.sin(y / 61)) * np.sin(y / 6.1) + 0.05 * np.sin(x / 97)
    grain = np.random.default_rng([seed, top, left]).standard_normal((height, width), np.float32)
    grey = threads + 0.02 * grain
    colours = np.stack([grey, 0.9 * grey + 0.05, 0.8 * grey + 0.1], axis=-1)
    return (255 * colours.clip(0, 1)).round().astype(np.uint8)


def defect_of(height, width):
    """Rows and columns of the defect."""
    side = int(DEFECT * min(height, width))
    return slice(height // 2, height // 2 + side), slice(2 * width // 3, 2 * width // 3 + side)


def tiles(height, width, has_defect):
    rows, columns = defect_of(height, width) if has_defect else (slice(0, 0), slice(0, 0))
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = texture(top, left, TILE, TILE, seed=7)
            y, x = np.arange(top, top + TILE)[:, None], np.arange(left, left + TILE)[None, :]
            inside = (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)
            tile[inside] = tile[inside] // 2 + np.uint8(100) * ((y // 3 + x // 3) % 2)[inside][:, None].astype(np.uint8)
            yield tile


def write_large(path, height, width, has_defect):
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(tiles(height, width, has_defect), shape=(height, width, 3), dtype=np.uint8, tile=(TILE, TILE),
                   photometric="rgb")


def run(program, *args):
    """Seconds and peak resident bytes of a call."""
    start = time.monotonic()
    process = subprocess.Popen([program, *map(str, args)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"convae {args[0]} failed")
    return time.monotonic() - start, usage.ru_maxrss * 1024


def report(what, seconds, peak):
    print(f"{what:24} {seconds:8.1f} s  {peak / 1e9:6.2f} GB peak", flush=True)


def row_of(table, name):
    with open(table, newline="") as file:
        return next(row for row in csv.DictReader(file) if row["path"] == name)


def corner(height, width):
    """The picture's, from its first pixel on; the defect is elsewhere."""
    rows = [np.concatenate([texture(top, left, TILE, TILE, seed=7) for left in range(0, width, TILE)], axis=1)
            for top in range(0, height, TILE)]
    return np.concatenate(rows)[:height, :width]


def cut_is_equal(program, run_folder, folder, reconstruction):
    """The largest difference of a cut's reconstruction from that of the whole, where both see the same."""
    height, width = (min(a, b) for a, b in zip((2000, 3000), reconstruction.shape))
    cut = folder / "cut"
    cut.mkdir(exist_ok=True)
    tifffile.imwrite(cut / "cut.tif", corner(height, width), photometric="rgb")
    for name, tile in (("untiled", 4096), ("tiled", 512)):
        seconds, peak = run(program, "reconstruct", "--checkpoint", run_folder, "--data", cut, "--tile", tile,
                            "-o", folder / name, "--format", "keep", "--overwrite")
        report(f"cut, {name}", seconds, peak)
    untiled, tiled = (tifffile.imread(folder / name / "cut.tif").astype(int) for name in ("untiled", "tiled"))
    seen = 128  # more than the network sees
    inner = untiled[: height - seen, : width - seen]
    whole = reconstruction[: height - seen, : width - seen].astype(int)
    print("largest difference of a cut from the whole picture, in steps of 8 bits:",
          abs(inner - whole).max(), "; in tiles:", abs(untiled - tiled).max())
    for column in ("mse", "psnr", "ssim"):
        a, b = (float(row_of(folder / name / "reconstruct.csv", "cut.tif")[column])
                for name in ("untiled", "tiled"))
        print(f"  {column}: {a:.9g} untiled, {b:.9g} tiled")


def score(program, run_folder, folder, name):
    """The picture's row, threshold and map."""
    out = folder / "scores" / name
    report(f"score, {name}", *run(program, "score", "--checkpoint", run_folder, "--data", folder / name, "-o", out,
                                  "--tile", "auto", "--overwrite"))
    row = row_of(out / "scores.csv", f"{name}.tif")
    threshold = json.loads((out / "summary.json").read_text())["threshold"]
    print(f"{name}: score {float(row['score']):.3f}, threshold {threshold:.3f}, anomalous {row['anomalous']}", flush=True)
    return out / "heat" / f"{name}.png"


def score_both(program, run_folder, folder, height, width):
    score(program, run_folder, folder, "clean")
    heat = read_png(score(program, run_folder, folder, "large"))
    place = np.unravel_index(heat.argmax(), heat.shape)
    rows, columns = defect_of(height, width)
    found = rows.start - 32 <= place[0] < rows.stop + 32 and columns.start - 32 <= place[1] < columns.stop + 32
    print(f"the strongest place {tuple(map(int, place))} is {'in' if found else 'NOT in'} the defect", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="build/release/bin/convae")
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--size", default="20000x30000", help="HxW")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--levels", default="32,64,128,256")
    parser.add_argument("--only", choices=("score",), help="leave reconstruct out")
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    folder, program = arguments.folder, arguments.program
    good, large, clean = folder / "good", folder / "large", folder / "clean"
    for path in (good, large, clean):
        path.mkdir(parents=True, exist_ok=True)
    for i in range(24):
        tifffile.imwrite(good / f"good{i:02}.tif", texture(4000 * i, 1000 * i, 512, 512, seed=i),
                         photometric="rgb")
    for picture, has_defect in ((large / "large.tif", True), (clean / "clean.tif", False)):
        if not picture.exists():
            write_large(picture, height, width, has_defect)
    run_folder = folder / "runs" / "texture"
    if not run_folder.exists():
        report("train", *run(program, "train", "--data", good, "--output", folder / "runs", "--name", "texture",
                             "--levels", arguments.levels, "--crop", 128, "--val-split", 0.4,
                             "--max-steps", arguments.steps, "--epochs", 1000, "--quiet"))
        report("calibrate", *run(program, "calibrate", "--checkpoint", run_folder))
    if arguments.only == "score":
        return score_both(program, run_folder, folder, height, width)
    report("reconstruct", *run(program, "reconstruct", "--checkpoint", run_folder, "--data", large, "-o",
                               folder / "out", "--format", "keep", "--tile", "auto", "--overwrite"))
    with tifffile.TiffFile(folder / "out" / "large.tif") as tiff:
        page = tiff.pages[0]
        print("written:", page.shape, "tiles of", page.tile, "BigTIFF" if tiff.is_bigtiff else "TIFF")
    print(row_of(folder / "out" / "reconstruct.csv", "large.tif"))
    score_both(program, run_folder, folder, height, width)
    # Last: a process that is started counts the memory of this one.
    cut_is_equal(program, run_folder, folder, tifffile.imread(folder / "out" / "large.tif"))


def read_png(path):
    from PIL import Image
    Image.MAX_IMAGE_PIXELS = None
    return np.asarray(Image.open(path))


if __name__ == "__main__":
    main()
