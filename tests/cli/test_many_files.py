"""Folders with more files than anybody looks at. bench/many_files.py makes larger ones."""

import shutil
import subprocess
import sys

import pytest

from convae_program import ONE_CORE, read_csv, snapshot, source_dir

COUNT = 10_000
TRAIN = ("--levels", "2", "--size", 8, "--max-steps", 1, "--val-split", 0.01, "--report", "false",
         "--save-every", 0, *ONE_CORE)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many") / "in"
    subprocess.run([sys.executable, source_dir() / "bench/many_files.py", folder, str(COUNT)], check=True)
    return folder


def test_ten_thousand_files_are_listed_split_and_kept(done, many, tmp_path):
    done("train", "--data", many, "--name", "a", *TRAIN)
    rows = read_csv(tmp_path / "runs/a/images.csv")
    names = sorted(str(path.relative_to(many)) for path in many.rglob("*.png"))
    assert sorted(row["path"] for row in rows) == names
    for side in ("training", "validation"):
        own = [row["path"] for row in rows if row["set"] == side]
        assert own == sorted(own)
    assert 50 < len(own) < 150
    index = snapshot(tmp_path / "runs/.index")
    done("train", "--data", many, "--name", "b", *TRAIN)
    assert snapshot(tmp_path / "runs/.index") == index, "no header was read again"
    assert (tmp_path / "runs/b/images.csv").read_text() == (tmp_path / "runs/a/images.csv").read_text()
    # A part of the folder, and another file, leave what is known of the rest.
    shutil.copy(many / "00000/image_00000001.png", many / "00000/new.png")
    try:
        done("train", "--data", many, "--include", "00000/*", "--name", "c", *TRAIN)
        kept = next((tmp_path / "runs/.index").iterdir())
        assert kept.stat().st_size > len(next(iter(index.values()))[1])
    finally:
        (many / "00000/new.png").unlink()


def test_they_may_be_packed(done, many, tmp_path):
    done("pack", "--data", many, "-o", "s", "--shard-size", "512K")
    shards = sorted((tmp_path / "s").glob("*.tar"))
    assert len(shards) > 3
    done("train", "--data", many, "--name", "folder", *TRAIN)
    done("train", "--data", "s", "--name", "shards", *TRAIN)
    assert (tmp_path / "runs/folder/images.csv").read_text() == \
        (tmp_path / "runs/shards/images.csv").read_text()
