import re
import shutil
import signal

import pytest

from convae_program import (ONE_CORE, assert_same_tensors, read_csv, read_metadata, save_pictures, snapshot,
                            wait_until)

LAST = "weights/last.safetensors"
BASE = ("--levels", "4,8", "--batch-size", 4, "--val-split", 0, *ONE_CORE)
LOSSES = ("epoch", "step", "lr", "train_loss")


def losses(run):
    return [[row[name] for name in LOSSES] for row in read_csv(run / "metrics.csv")]


@pytest.fixture
def copied(trained, tmp_path):
    """The finished run of five epochs, to do things to."""
    return shutil.copytree(trained.run, tmp_path / "run")


def test_three_epochs_and_three_more_equal_six(done, photos, tmp_path):
    constant = ("--schedule", "constant", *BASE)
    done("train", "--data", photos, "--epochs", 6, "--name", "whole", *constant)
    done("train", "--data", photos, "--epochs", 3, "--name", "parts", *constant)
    result = done("train", "--resume", "runs/parts", "--epochs", 6, "--workers", 0)
    whole, parts = tmp_path / "runs" / "whole", tmp_path / "runs" / "parts"
    assert any("resuming" in line for line in result.logs)
    assert_same_tensors(whole / LAST, parts / LAST)
    assert_same_tensors(whole / "weights/epoch_0005.safetensors",
                        parts / "weights/epoch_0005.safetensors")
    assert losses(whole) == losses(parts)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".index", "latest", "parts",
                                                                       "whole"]


def test_larger_total_stretches_the_cosine(done, copied):
    before = losses(copied)
    done("train", "--resume", copied, "--epochs", 10)
    after = losses(copied)
    assert after[:5] == before
    assert len(after) == 10
    # Half of ten epochs are done, so the rate goes on from half of 1e-3, not from zero.
    assert float(after[4][2]) < 3e-4 < float(after[5][2]) < 5e-4
    assert float(after[9][2]) < 3e-5


def test_killed_while_its_end_is_validated_it_is_validated_when_resumed(program, tmp_path):
    pictures = save_pictures(tmp_path / "few", [(24, 24)] * 12)
    slow = save_pictures(tmp_path / "slow", [(400, 400)] * 12)
    call = ("train", "--data", pictures, "--val", slow, "--levels", "4,8", "--batch-size", 4, "--max-steps", 5,
            "--save-minutes", 1e-5, "--report", "false", *ONE_CORE)
    program.run(*call, "--name", "whole", cwd=tmp_path)
    whole, cut = tmp_path / "runs" / "whole", tmp_path / "runs" / "cut"
    # Its first epoch, of three steps, is validated, too.
    process = program.start(*call, "--name", "cut", cwd=tmp_path)
    wait_until(lambda: (cut / LAST).exists() and read_metadata(cut / LAST)["step"] == 5, process)
    process.kill()
    process.wait()
    assert len(read_csv(cut / "metrics.csv")) == 1, "it was killed too late"
    said = program.run("train", "--resume", cut, cwd=tmp_path).stdout
    assert "2 epochs, 5 steps" in said
    assert losses(cut) == losses(whole)
    assert read_csv(cut / "validation.csv") == read_csv(whole / "validation.csv")
    assert_same_tensors(cut / "weights/best.safetensors", whole / "weights/best.safetensors")
    assert "--max-steps 10" in program.run("train", "--resume", cut, cwd=tmp_path).stdout


def test_a_finished_run_is_not_said_to_begin_anew(done, copied):
    result = done("train", "--resume", copied, "--loss", "l1")
    assert "is finished" in result.stdout and not any("anew" in line for line in result.logs)


def test_a_finished_run_warns_of_what_it_was_not_trained_with(done, convae, copied, photos, squares):
    done("train", "--resume", copied, "--epochs", 6, "--batch-size", 4, "--precision", "fp32")
    before = snapshot(copied)
    same = done("train", "--resume", copied, "--data", f"{photos}/", "--epochs", 3, "--lr", "auto",
                "--batch-size", 4, "--precision", "auto", "--strict", "--save-every", 9)
    assert "is finished (6 epochs" in same.stdout and not any("warning" in line for line in same.logs)
    other = done("train", "--resume", copied, "--data", squares, "--loss", "l1", "--epochs", 6)
    assert "is finished" in other.stdout
    assert [line.partition(": ")[2] for line in other.logs if "warning" in line] == [
        "--data has no effect: the run is finished", "--loss has no effect: the run is finished"]
    convae("train", "--resume", copied, "--data", squares, "--strict").assert_refused(
        1, "--data is not what the finished run was trained with", "--strict=false")
    assert snapshot(copied) == before


def test_another_seed_begins_the_epoch_anew(done, photos, tmp_path):
    done("train", "--data", photos, "--epochs", 2, "--max-steps", 2, *BASE)
    result = done("train", "--resume", "runs/latest", "--max-steps", 8, "--seed", 5)
    assert any("seed was 0 and is 5: the epoch begins anew" in line for line in result.logs)
    # Two steps are of the epoch that was given up: of the eight, six are left, four an epoch.
    assert [row[1] for row in losses(tmp_path / "runs" / "photos")][-1] == "8"


@pytest.mark.parametrize("flags, parts", [
    (["--levels", "4,16"], ["--levels '4,16'", "4:"]),
    (["--kernel", "5"], ["--kernel"]),
    (["--activation", "relu"], ["--activation 'relu'", "silu"]),
    (["--channels", "1"], ["--channels '1'", "3"]),
    (["--norm", "none"], ["--norm 'none'", "batch"]),
    (["--latent-channels", "2"], ["--latent-channels '2'", "0"]),
    (["--output-activation", "tanh"], ["--output-activation 'tanh'", "sigmoid"]),
])
def test_contradiction_is_refused_by_name(convae, copied, flags, parts):
    before = snapshot(copied)
    result = convae("train", "--resume", copied, "--epochs", 6, *flags)
    result.assert_refused(2, *parts, "contradicts")
    assert snapshot(copied) == before


def test_a_resume_without_a_folder_of_images_is_bad_usage(convae, copied):
    convae("train", "--resume", copied, "--epochs", 6, "--data", "").assert_refused(2, "--data is needed")


def test_a_finished_run_without_a_detector_needs_no_weights_for_score(done, copied):
    (copied / "weights/best.safetensors").write_bytes(b"damaged")
    assert done("train", "--resume", copied).stderr == ""


def test_flags_that_repeat_the_run_are_no_contradiction(done, copied):
    result = done("train", "--resume", copied, "--levels", "4:k3s2p1,8", "--activation", "silu",
                  "--channels", 3)
    assert "is finished" in result.stdout


def test_rows_past_the_checkpoint_are_cut(done, copied):
    rows = losses(copied)
    with open(copied / "metrics.csv", "a") as file:
        file.write("6,999,1,1,1,1,1,1,1,1\n7,9999,1,1,1,1,1,1,1,1\n8,99")
    done("train", "--resume", copied, "--epochs", 6)
    after = losses(copied)
    assert after[:5] == rows
    assert [row[0] for row in after] == ["1", "2", "3", "4", "5", "6"]
    assert after[5][1] != "999"


def test_missing_run_is_named(convae, tmp_path):
    convae("train", "--resume", "runs/none").assert_refused(1, "--resume 'runs/none'", "no such run folder")
    (tmp_path / "empty").mkdir()
    convae("train", "--resume", "empty").assert_refused(1, "--resume 'empty'", "last.safetensors")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_checkpoint_is_refused(convae, copied, damage):
    file = copied / LAST
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[len(data) // 2:]
    else:
        data[len(data) - 9] ^= 1
    file.write_bytes(data)
    before = snapshot(copied)
    convae("train", "--resume", copied, "--epochs", 6).assert_refused(1, "last.safetensors")
    assert snapshot(copied) == before


def test_crop_of_a_dense_model_survives_a_resume(done, photos, tmp_path):
    options = ("--latent", 4, "--size", 24, "--crop", 16, "--schedule", "constant", *BASE)
    done("train", "--data", photos, "--epochs", 2, "--name", "whole", *options)
    done("train", "--data", photos, "--epochs", 1, "--name", "parts", *options)
    done("train", "--resume", "runs/parts", "--epochs", 2)
    assert_same_tensors(tmp_path / "runs/whole" / LAST, tmp_path / "runs/parts" / LAST)


# A batch of one makes an epoch long enough to be stopped within.
STOPPABLE = ("--levels", "8,16", "--batch-size", 1, "--val-split", 0, "--epochs", 30, "--seed", 3,
             *ONE_CORE)


@pytest.fixture(scope="module")
def uninterrupted(program, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    program.run("train", "--data", photos, *STOPPABLE, "--quiet", cwd=folder)
    return folder / "runs" / "photos"


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_run_saves_and_goes_on_as_if_it_had_not_been(program, photos, uninterrupted, tmp_path,
                                                             sent, code):
    process = program.start("train", "--data", photos, *STOPPABLE, cwd=tmp_path)
    run = tmp_path / "runs" / "photos"
    wait_until((run / "metrics.csv").exists, process)
    process.send_signal(sent)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "--resume" in stderr and "stopped at step" in stderr
    assert stdout == ""
    assert len(losses(run)) < 30
    program.run("info", run / LAST, cwd=tmp_path)
    program.run("train", "--resume", run, cwd=tmp_path)
    assert_same_tensors(run / LAST, uninterrupted / LAST)
    assert losses(run) == losses(uninterrupted)


def test_a_folder_is_the_same_with_a_slash_behind_it(done, photos):
    words = ("--levels", "4,8", "--epochs", 1, "--name", "slash", *ONE_CORE)
    done("train", "--data", photos, *words)
    again = done("train", "--data", f"{photos}/", *words, "--resume", "auto", "--epochs", 2)
    assert "starts anew" not in again.stderr


def test_the_index_of_headers_is_beside_the_run_whatever_its_name_ends_with(done, copied, tmp_path):
    done("train", "--resume", f"{copied}/", "--epochs", 9)
    assert (copied.parent / ".index").is_dir() and not (copied / ".index").exists()


def test_tables_of_other_images_do_not_stay(done, photos, squares, tmp_path):
    done("train", "--data", photos, "--name", "run", "--epochs", 1, *BASE, "--val-split", 0.4)
    run = tmp_path / "runs/run"
    assert (run / "validation.csv").exists() and (run / "samples/best.png").exists()
    done("train", "--resume", run, "--data", squares, "--val-split", 0, "--epochs", 2)
    assert not (run / "validation.csv").exists()
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["epoch_0001.png", "epoch_0002.png",
                                                                         "samples.csv"]
    assert {row["picture"] for row in read_csv(run / "samples/samples.csv")} == {"epoch_0001", "epoch_0002"}


def test_an_empty_folder_is_begun_by_resume_auto(done, photos, tmp_path):
    (tmp_path / "runs/empty").mkdir(parents=True)
    done("train", "--data", photos, "--name", "empty", "--resume", "auto", "--epochs", 1, *BASE)
    assert (tmp_path / "runs/empty/weights/last.safetensors").exists()


def test_a_link_to_an_empty_folder_is_not_replaced_by_resume_auto(convae, photos, tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "runs").mkdir()
    link = tmp_path / "runs/linked"
    link.symlink_to(tmp_path / "large disk")
    convae("train", "--data", photos, "--name", "linked", "--resume", "auto", *BASE).assert_refused(
        1, "runs/linked", "holds no weights/last.safetensors")
    assert link.is_symlink()


@pytest.mark.parametrize("flags", [("--lr", 0, "--norm", "none", "--patience", 2, "--epochs", 30),
                                   ("--epochs", 2, "--max-steps", 2, "--batch-size", 99)],
                         ids=["stopped early", "two totals"])
def test_a_finished_run_goes_on_with_the_larger_total_it_names(done, squares, flags):
    done("train", "--data", squares, "--val", squares, "--levels", 4, *flags, *ONE_CORE)
    larger = re.search("such as (.*), to go on", done("train", "--resume", "runs/squares").stdout)[1]
    assert "is finished" not in done("train", "--resume", "runs/squares", *larger.split()).stdout


def test_two_dots_lead_up_from_where_a_link_leads(done, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "real/photos")
    (tmp_path / "real/inner").mkdir()
    (tmp_path / "link").symlink_to("real/inner")
    (tmp_path / "photos").mkdir()
    done("train", "--data", "link/../photos", "--epochs", 1, *BASE)
    assert str((tmp_path / "real/photos").resolve()) in (tmp_path / "runs/photos/config.toml").read_text()


def test_another_loss_begins_the_search_for_the_best_anew(program, photos, tmp_path):
    words = ["--levels", "4,8", *ONE_CORE]
    program.run("train", "--data", photos, *words, "--epochs", "2", cwd=tmp_path)
    best = tmp_path / "runs" / "photos" / "weights" / "best.safetensors"
    before = best.read_bytes()
    program.run("train", "--resume", "runs/photos", "--epochs", "3", "--loss", "l1", cwd=tmp_path)
    assert best.read_bytes() != before


def test_model_options_that_agree_are_accepted_and_contradictions_in_files_refused(program, photos,
                                                                                 tmp_path):
    words = ["--levels", "4,8", "--kernel", "5", "--padding", "2", *ONE_CORE]
    program.run("train", "--data", photos, *words, "--epochs", "1", cwd=tmp_path)
    program.run("train", "--resume", "runs/photos", "--levels", "4,8", "--kernel", "5", "--epochs",
                "2", cwd=tmp_path)
    (tmp_path / "other.toml").write_text("[model]\nnorm = \"none\"\n")
    program.call("train", "--resume", "runs/photos", "--config", "other.toml", "--epochs", "3",
                 cwd=tmp_path).assert_refused(2, "--norm 'none' contradicts", "norm batch")
    program.call("train", "--resume", "runs/photos", "--kernel", "3", "--epochs", "3",
                 cwd=tmp_path).assert_refused(2, "--kernel '3x3' contradicts")
    program.call("train", "--resume", "runs/photos", "--init", "x",
                 cwd=tmp_path).assert_refused(2, "--init and --resume exclude each other")


def test_a_run_keeps_its_number_of_threads(program, photos, tmp_path):
    program.run("train", "--data", photos, "--levels", "4", "--epochs", "1", "--threads", "1",
                "--workers", "1", cwd=tmp_path)
    result = program.run("train", "--resume", "runs/photos", "--epochs", "2", cwd=tmp_path)
    assert "1 compute threads" in result.stderr


def test_a_quiet_run_stays_quiet_until_told_otherwise(done, photos):
    done("train", "--data", photos, "--epochs", 1, "--quiet", *BASE)
    assert done("train", "--resume", "runs/photos", "--epochs", 2).stderr == ""
    loud = done("train", "--resume", "runs/photos", "--epochs", 3, "--quiet", "false")
    assert any("epoch 3/3" in line for line in loud.logs)


def test_the_schedule_ends_with_the_run_after_a_resume_with_other_batches(done, photos, tmp_path):
    """The 4 steps of before were of more images, so the schedule is further than they say."""
    words = ("--data", photos, "--levels", "4", "--val-split", 0, *ONE_CORE)
    done("train", *words, "--epochs", 4, "--batch-size", 15)
    done("train", "--resume", "runs/photos", "--epochs", 40, "--batch-size", 2, "--max-steps", 20)
    rates = [float(row["lr"]) for row in read_csv(tmp_path / "runs/photos/metrics.csv")][4:]
    assert len(rates) == 2 and rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-4  # of 1e-3
