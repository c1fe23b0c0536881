"""Inspection on pictures it was not tuned on: textures, drawn parts, and frames that must never pass."""

import json

import pytest

from convae_program import ONE_CORE, read_csv, source_dir
from inspection_parts import FRAMES, SHAPES, make_frames, make_part_frames, make_parts
from inspection_textures import TEXTURES, make_texture

COUNTS = (48, 40, 10)  # to train on, good ones to test, of each kind of defect: fewer vary by chance
SIDES = (96, 129)  # of a picture, in pixels; the upper one is not reached
FRAMED = SHAPES + ("brick",)  # the families whose frames are scored
FRAME_COUNT = 4  # of each kind
RECIPE = source_dir() / "configs/inspect.toml"
SMALL = ("--levels", "16,32,64", "--crop", 64, "--batch-size", 8, "--val-split", 0.4, "--save-every", 0, "--report",
         "false", *ONE_CORE)


def score(program, folder, data, out):
    """summary.json and the rows of scores.csv, of a run that is calibrated by the first call."""
    program.run("score", "--checkpoint", "runs/run", "--data", data, "-o", out, "--fpr", 0.05, "--heat-maps", "false",
                "--report", "false", "--quiet", *ONE_CORE, cwd=folder)
    return json.loads((folder / out / "summary.json").read_text()), read_csv(folder / out / "scores.csv")


@pytest.fixture(scope="module")
def judged(program, tmp_path_factory):
    """judged(family): trained and scored once, when first asked for."""
    done = {}

    def judge(family):
        if family not in done:
            folder = tmp_path_factory.mktemp(family)
            if family in SHAPES:
                make_parts(folder / "data", family, counts=COUNTS, sides=SIDES)
                make_part_frames(folder / "frames", family, folder / "data/test/good", count=FRAME_COUNT, sides=SIDES)
            else:
                make_texture(folder / "data", family, counts=COUNTS, sides=SIDES)
                make_frames(folder / "frames", folder / "data/test/good", count=FRAME_COUNT,
                            kinds=[kind for kind in FRAMES if kind != "turned"])
            steps = 300 if family == "gravel" else 100  # it is the hardest
            program.run("train", "--config", RECIPE, "--data", "data", "--name", "run", "--quiet", *SMALL, "--max-steps",
                        steps, cwd=folder)
            done[family] = score(program, folder, "data", "scores")
            if family in FRAMED:
                done[family] += score(program, folder, "frames", "frame-scores")
        return done[family]

    return judge


@pytest.mark.parametrize("family", TEXTURES + SHAPES)
def test_defects_stand_out(judged, family):
    assert judged(family)[0]["image_auroc"] > 0.75


@pytest.mark.parametrize("families", [TEXTURES, SHAPES])
def test_good_pictures_are_seldom_anomalous(judged, families):
    verdicts = [int(row["anomalous"]) for family in families for row in judged(family)[1] if row["label"] == "good"]
    assert len(verdicts) == COUNTS[1] * len(families)
    assert sum(verdicts) / len(verdicts) <= 0.15


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_that_must_never_pass_is_anomalous(judged, kind):
    passed = {}
    for family in SHAPES if kind == "turned" else FRAMED:
        summary, rows = judged(family)[2:]
        scores = {row["path"]: float(row["score"]) for row in rows if row["path"].startswith(f"{kind}/")}
        assert len(scores) == FRAME_COUNT
        passed |= {f"{family} {path}": (value, summary["threshold"]) for path, value in scores.items()
                   if value <= summary["threshold"]}
    assert not passed
