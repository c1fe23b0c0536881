"""Measures of `score` against scikit-learn and SciPy, from the files it writes."""

import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from convae_program import ONE_CORE, pixels_of, read_csv
from drawn_parts import make_parts


@pytest.fixture(scope="module")
def scored(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspection")
    data = make_parts(folder / "parts", good=12, photos=1)
    program.run("train", "--data", data, "--levels", "4,8", "--epochs", 5, "--val-split", 0.5,
                "--name", "run", "--quiet", *ONE_CORE, cwd=folder)
    program.run("score", "--checkpoint", "runs/run", "--data", data, "-o", "out", "--fpr", 0.2,
                *ONE_CORE, cwd=folder)
    return data, folder / "out"


@pytest.fixture(scope="module")
def summary(scored):
    return json.loads((scored[1] / "summary.json").read_text())


def labels_and_scores(scored, kind=None):
    rows = [row for row in read_csv(scored[1] / "scores.csv")
            if kind is None or row["label"] in ("good", kind)]
    return (np.array([row["label"] != "good" for row in rows]),
            np.array([float(row["score"]) for row in rows]),
            np.array([row["anomalous"] == "1" for row in rows]))


@pytest.mark.parametrize("kind", [None, "hole", "crack"])
def test_image_measures_are_scikit_learns(scored, summary, kind):
    labels, scores, verdicts = labels_and_scores(scored, kind)
    ours = summary if kind is None else summary["kinds"][kind]
    assert ours["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert ours["average_precision"] == pytest.approx(average_precision_score(labels, scores))
    assert ours["f1"] == pytest.approx(f1_score(labels, verdicts))
    assert ours["false_positive_rate"] == pytest.approx(verdicts[~labels].mean())


def maps_and_masks(scored, kind):
    data, out = scored
    for row in read_csv(out / "scores.csv"):
        if row["label"] not in ("good", kind) and kind is not None:
            continue
        heat = pixels_of(out / "heat" / row["path"]).astype(float)
        name = row["path"].replace("test/", "ground_truth/").replace(".png", "_mask.png")
        good = row["label"] == "good"
        yield heat, np.zeros(heat.shape, bool) if good else pixels_of(data / name) > 127


def per_region_overlap(maps, most=0.3):
    """Bergmann et al. 2021, threshold by threshold."""
    outside = np.concatenate([heat[~mask] for heat, mask in maps])
    regions = []
    for heat, mask in maps:
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [heat[labels == number] for number in range(1, count + 1)]
    thresholds = np.unique(np.concatenate([heat.ravel() for heat, _ in maps]))[::-1]
    rates, overlaps = [0.0], [0.0]
    for threshold in thresholds:
        rates.append((outside >= threshold).mean())
        overlaps.append(np.mean([(region >= threshold).mean() for region in regions]))
    grid = np.append([rate for rate in rates if rate < most], most)
    # Of several overlaps at one rate the last one counts from there on.
    curve = np.interp(grid, rates, overlaps)
    curve[:-1] = np.array(overlaps)[:len(grid) - 1]
    return np.trapezoid(curve, grid) / most


@pytest.mark.parametrize("kind", [None, "hole"])
def test_pixel_measures_are_those_of_the_heat_maps(scored, summary, kind):
    """Up to what the pictures round and cut off."""
    maps = list(maps_and_masks(scored, kind))
    ours = summary if kind is None else summary["kinds"][kind]
    labels = np.concatenate([mask.ravel() for _, mask in maps])
    values = np.concatenate([heat.ravel() for heat, _ in maps])
    assert ours["pixel_auroc"] == pytest.approx(roc_auc_score(labels, values), abs=0.005)
    assert ours["pro"] == pytest.approx(per_region_overlap(maps), abs=0.01)
