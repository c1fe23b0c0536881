import json
import os
import shutil

import pytest


def test_json_says_what_the_checkpoint_holds(done, trained):
    info = json.loads(done("info", trained.run, "--json").stdout)
    assert info["epoch"] in range(1, 6) and info["step"] % info["epoch"] == 0
    assert info["file"].endswith("weights/best.safetensors")
    assert info["levels"] == ["4:k3x3s2x2p1x1d1x1", "8:k3x3s2x2p1x1d1x1"]
    assert (info["channels"], info["range"]) == (3, [0, 1])
    assert (info["order"], info["activation"], info["norm"]) == ("conv-bn-act", "silu", "batch")
    assert (info["latent"], info["latent-channels"], info["output"]) == (0, 0, "sigmoid")
    assert info["seed"] == 0 and info["format"] == 2
    # Both directions' convolutions with their biases, and the norms of all blocks but the last.
    convolutions = 2 * 9 * (3 * 4 + 4 * 8) + (4 + 8) + (4 + 3)
    assert info["parameters"] == convolutions + 2 * (4 + 8 + 4)


def test_json_of_a_file_and_of_a_dense_model(done, trained, dense):
    last = json.loads(done("info", trained.run / "weights/last.safetensors", "--json").stdout)
    assert last["epoch"] == 5
    info = json.loads(done("info", dense, "--json").stdout)
    assert (info["latent"], info["size"]) == (6, "16x20")


def test_text_is_for_people(done, trained):
    text = done("info", trained.run).stdout
    lines = dict(line.split(None, 1) for line in text.splitlines())
    assert lines["activation"] == "silu"
    assert lines["size"] == "any"
    assert lines["levels"].startswith("4:k3x3s2x2p1x1d1x1,8:")
    assert "{" not in text


def test_options_may_stand_before_the_run(done, trained):
    assert json.loads(done("info", "--json", trained.run).stdout)["channels"] == 3


def test_results_go_to_stdout_alone(done, trained):
    for words in (("info", trained.run, "--json"), ("info", trained.run),
                  ("shapes", "--input", "3x24x25", "--json")):
        assert done(*words).stderr == ""


def test_what_is_no_checkpoint_is_refused(convae, tmp_path, photos):
    convae("info", "nowhere").assert_refused(1, "nowhere")
    convae("info", photos).assert_refused(1, "not a run folder")
    convae("info", photos / "000.png").assert_refused(1, "000.png")


def test_an_odd_path_is_escaped_once(done, trained, tmp_path):
    for name, shown in (("od\nd", "od\\nd"), ("od\udcffd", "od\\xffd")):
        (tmp_path / name).symlink_to(trained.run)
        assert f" {shown}/weights/best.safetensors\n" in done("info", name).stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_run_that_may_not_be_read_is_not_said_to_be_none(convae, trained, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "run")
    (run / "weights").chmod(0)
    try:
        convae("info", run).assert_refused(1, "cannot read", "Permission denied")
    finally:
        (run / "weights").chmod(0o755)
