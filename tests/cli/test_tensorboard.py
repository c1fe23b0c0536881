"""train --tensorboard, read by TensorBoard's own reader."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.backend.event_processing.io_wrapper import GetLogdirSubdirectories
from tensorboard.compat.proto.event_pb2 import Event

from convae_program import ONE_CORE, pixels_of, read_csv

TAGS = {"loss/train": "train_loss", "loss/validation": "val_loss", "validation/mse": "val_mse",
        "validation/psnr": "val_psnr", "validation/ssim": "val_ssim", "learning_rate": "lr",
        "images_per_s": "images_per_s", "epoch": "epoch"}
OPTIONS = ("--levels", "4,8", "--batch-size", 4, "--val-split", 0.3, "--tensorboard", *ONE_CORE)
SAMPLES = "input, reconstruction, error"


def events_folder(run):
    return run.parent / "tensorboard" / run.name


def event_files(run):
    return sorted(events_folder(run).glob("events.out.tfevents.*"))


def events_of(run):
    """All that TensorBoard finds in a folder; its reader checks every checksum."""
    accumulator = EventAccumulator(str(events_folder(run)),
                                   size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def assert_scalars_are_the_metrics(run, rows):
    events = events_of(run)
    for tag, column in TAGS.items():
        scalars = events.Scalars(tag)
        assert [event.step for event in scalars] == [int(row["step"]) for row in rows], tag
        expected = np.float32([float(row[column]) for row in rows])
        assert (np.float32([event.value for event in scalars]) == expected).all(), tag


@pytest.fixture(scope="module")
def run(program, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorboard")
    program.run("train", "--data", photos, "--epochs", 3, "--save-every", 2, *OPTIONS, cwd=folder)
    return folder / "runs" / "photos"


def test_scalars_are_those_of_the_metrics(run):
    assert len(event_files(run)) == 1
    assert_scalars_are_the_metrics(run, read_csv(run / "metrics.csv"))


def test_images_are_the_sample_pictures(run):
    rows = {int(row["epoch"]): row for row in read_csv(run / "metrics.csv")}
    images = events_of(run).Images(SAMPLES)
    assert [image.step for image in images] == [int(rows[epoch]["step"]) for epoch in (1, 2, 3)]
    for image, epoch in zip(images, (1, 2, 3)):
        shown = Image.open(io.BytesIO(image.encoded_image_string))
        assert (image.width, image.height) == shown.size
        assert (np.array(shown) == pixels_of(run / "samples" / f"epoch_{epoch:04}.png")).all()


def test_file_begins_with_its_version_and_has_nothing_else(run):
    records = list(RawEventFileLoader(str(event_files(run)[0])).Load())
    events = [Event.FromString(record) for record in records]
    assert events[0].file_version == "brain.Event:2"
    times = [event.wall_time for event in events]
    assert times == sorted(times) and abs(times[-1] - os.stat(run).st_mtime) < 3600
    for event in events[1:]:
        assert event.WhichOneof("what") == "summary" and event.step > 0
        for value in event.summary.value:
            assert value.tag in TAGS or value.tag == SAMPLES
    assert [event.SerializeToString() for event in events] == records, "no field it does not know"


def test_without_validation_its_tags_are_missing(program, squares, tmp_path):
    program.run("train", "--data", squares, "--levels", "4", "--epochs", 1, "--val-split", 0, "--tensorboard",
                *ONE_CORE, cwd=tmp_path)
    tags = events_of(tmp_path / "runs" / "squares").Tags()["scalars"]
    assert set(tags) == {"loss/train", "learning_rate", "images_per_s", "epoch"}


def test_not_asked_for_there_is_none(trained):
    assert event_files(trained.run) == []


def test_resumed_run_goes_on_without_the_work_that_was_lost(program, photos, tmp_path):
    program.run("train", "--data", photos, "--epochs", 2, *OPTIONS, cwd=tmp_path)
    run = tmp_path / "runs" / "photos"
    last = run / "weights" / "last.safetensors"
    shutil.copy(last, tmp_path / "kept")
    program.run("train", "--resume", run, "--epochs", 4, cwd=tmp_path)
    lost = events_of(run).Scalars("loss/train")
    assert len(lost) == 4
    # As if the process had been killed before epoch 3 was saved.
    shutil.copy(tmp_path / "kept", last)
    program.run("train", "--resume", run, "--epochs", 3, "--lr", "1e-2", cwd=tmp_path)
    assert len(event_files(run)) == 3
    rows = read_csv(run / "metrics.csv")
    assert len(rows) == 3
    assert_scalars_are_the_metrics(run, rows)
    assert events_of(run).Scalars("loss/train")[2].value != lost[2].value


@pytest.mark.parametrize("flags", [(), ("--seed", 5)], ids=["goes on", "begins anew"])
def test_an_epoch_that_was_cut_short_is_dropped_when_it_goes_on_or_begins_anew(program, photos, tmp_path, flags):
    program.run("train", "--data", photos, "--epochs", 3, "--max-steps", 4, *OPTIONS, cwd=tmp_path)
    run = tmp_path / "runs" / "photos"
    program.run("train", "--resume", run, "--epochs", 3, *flags, cwd=tmp_path)
    rows = read_csv(run / "metrics.csv")
    assert len(rows) == 3
    assert_scalars_are_the_metrics(run, rows)


def test_a_folder_that_cannot_be_made_is_named_and_the_run_goes_on(program, squares, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tensorboard").write_text("mine")
    result = program.run("train", "--data", squares, "--epochs", 1, *OPTIONS, cwd=tmp_path)
    said = [line.partition("warning: ")[2] for line in result.logs if "the run goes on" in line]
    assert len(said) == 1 and said[0].startswith("cannot create the folder ") and "tensorboard/squares" in said[0]


def test_a_run_is_shown_once(run):
    folders = list(GetLogdirSubdirectories(str(run.parent)))
    assert folders == [str(events_folder(run))]
    assert (run.parent / "latest").is_symlink()


def test_a_new_run_takes_the_place_of_a_deleted_one(program, squares, tmp_path):
    for _ in range(2):
        program.run("train", "--data", squares, "--epochs", 1, *OPTIONS, cwd=tmp_path)
        run = tmp_path / "runs" / "squares"
        assert len(event_files(run)) == 1 and len(events_of(run).Scalars("epoch")) == 1
        shutil.rmtree(run)
