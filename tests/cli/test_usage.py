"""Bad usage and bad input: one line that says what to do, the right code, nothing left behind."""

import subprocess

import pytest
import torch
from PIL import Image

from convae_program import ONE_CORE, picture, source_dir

COMMANDS = ["train", "reconstruct", "encode", "decode", "evaluate", "shapes", "info"]

# Given --data where the folder has images: what is wrong is the rest. Values that no option takes are
# in tests/app/test_options.cpp.
BAD_TRAINING = {
    "crop above size": (["--size", "16", "--crop", "17"], ["crop", "17", "16"]),
    "two channels": (["--channels", "2"], ["channels", "1 or 3", "2"]),
    "all for validation": (["--val-split", "1"], ["val-split", "below 1"]),
    "stride 0": (["--levels", "8", "--stride", "0"], ["stride", "between 1", "0x0"]),
    "two kinds of latent": (["--latent", "4", "--latent-channels", "2", "--size", "16"],
                            ["latent 4", "latent-channels 2"]),
    "unknown device": (["--device", "gpu"], ["--device 'gpu'", "cuda"]),
    "negative threads": (["--threads", "-1"], ["--threads '-1'"]),
}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", BAD_TRAINING)
def test_bad_option_is_refused_by_name_and_leaves_no_run(convae, photos, tmp_path, name):
    words, parts = BAD_TRAINING[name]
    convae("train", "--data", photos, *words).assert_refused(2, *parts)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("words, parts", [
    (["train"], ["--data is needed"]),
    (["reconstruct", "--data", "x", "-o", "out"], ["--checkpoint is needed"]),
    (["reconstruct", "--checkpoint", "x", "--data", "x"], ["--output is needed"]),
    (["decode", "--checkpoint", "x", "-o", "out"], ["--latents is needed"]),
    (["shapes"], ["--input is needed"]),
    (["info"], ["info needs a run folder or a checkpoint"]),
])
def test_bad_call_is_refused(convae, tmp_path, words, parts):
    convae(*words).assert_refused(2, *parts)
    assert names_in(tmp_path) == []


def test_bad_config_is_refused_with_file_and_line(convae, photos, tmp_path):
    (tmp_path / "recipe.toml").write_text("[train]\nseed = 1\nepoch = 3\n")
    result = convae("train", "--data", photos, "--config", "recipe.toml")
    result.assert_refused(2, "recipe.toml:3: ", "'epoch'", "[train]", "did you mean 'epochs'?")
    assert names_in(tmp_path) == ["recipe.toml"]


def test_missing_folder_is_named(convae, tmp_path):
    convae("train", "--data", "nowhere").assert_refused(1, "nowhere", "does not exist")
    assert names_in(tmp_path) == []


def test_what_the_system_refuses_is_said_in_plain_words(convae, identity, photos, tmp_path):
    long = "x" * 300
    convae("encode", "--checkpoint", identity, "--data", photos, "--pool", "mean", "-o", f"{long}/latents.npy",
           *ONE_CORE).assert_refused(1, f"convae: cannot create the folder '{tmp_path}/{long}': File name too long")
    for words in (["info", long], ["train", "--resume", long]):
        convae(*words).assert_refused(1, f"convae: cannot use '{long}': File name too long")
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents/a.npy").symlink_to("a.npy")
    convae("decode", "--checkpoint", identity, "--latents", "latents", "--size", 16, "-o", "out").assert_refused(
        1, "convae: cannot use 'latents/a.npy': Too many levels")


def test_folder_without_images_is_named(convae, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    convae("train", "--data", "empty").assert_refused(1, "no usable image", "empty", "PNG")
    assert names_in(tmp_path) == ["empty"]


@pytest.fixture
def broken(tmp_path):
    """Not images at all, an image cut in its header, and one cut in its pixels."""
    folder = tmp_path / "broken"
    folder.mkdir()
    Image.fromarray(picture(40, 40)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "whole.png").unlink()
    (folder / "words.jpg").write_text("not an image")
    (folder / "nothing.png").write_bytes(b"")
    (folder / "header.png").write_bytes(whole[:20])
    (folder / "half.png").write_bytes(whole[:len(whole) // 2])
    return folder


def test_folder_of_broken_images_leaves_no_run(convae, broken, tmp_path):
    result = convae("train", "--data", broken, "--levels", "4", *ONE_CORE)
    result.assert_refused(1, "no usable image", "broken", "4 skipped")
    assert names_in(tmp_path) == ["broken"]
    for name in ("words.jpg", "nothing.png", "header.png", "half.png"):
        assert any(f"'{name}'" in line for line in result.logs), name


def test_first_bad_file_stops_a_run_that_skips_none(convae, photos, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "bad.png").write_text("not an image")
    result = convae("train", "--data", folder, "--levels", "4", "--skip-bad", "false", *ONE_CORE)
    result.assert_refused(1, "'bad.png'", "--skip-bad is false")
    assert names_in(tmp_path) == ["data"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_is_never_replaced_silently(convae, photos, tmp_path, device):
    result = convae("train", "--data", photos, "--device", device)
    result.assert_refused(1, f"--device '{device}'", "CUDA", "cpu")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("command", ["reconstruct", "encode"])
def test_missing_checkpoint_is_named(convae, photos, tmp_path, command):
    result = convae(command, "--checkpoint", "runs/none", "--data", photos, "-o", "out/")
    result.assert_refused(1, "runs/none")
    assert names_in(tmp_path) == []


def test_weights_without_architecture_are_no_checkpoint(convae, identity, photos):
    plain = identity.parents[1] / "identity.safetensors"
    result = convae("reconstruct", "--checkpoint", plain, "--data", photos, "-o", "out")
    result.assert_refused(1, "identity.safetensors", "not a convae checkpoint", "--init")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(done, command):
    result = done(command, "--help")
    assert f"convae {command}" in result.stdout
    assert "--help" in result.stdout
    assert ("[runs]" in result.stdout) == (command == "train")  # others have no place of their own
    assert result.stderr == ""


def test_help_shows_defaults(done):
    text = done("train", "-h").stdout
    for default in ("[32,64,128,256]", "[native]", "[cosine]", "[0.001]", "[silu]", "[conv-bn-act]"):
        assert default in text, default


def test_help_lists_the_commands_and_exit_codes(done):
    text = done("--help").stdout
    for word in [*COMMANDS, "0", "1", "2", "3", "129, 130, 143"]:
        assert f"\n  {word} " in text


@pytest.mark.parametrize("name", ["bench", "format", "fuzz", "get-data", "gpu-check", "package", "quickstart",
                                  "sanitize", "setup", "test", "tidy"])
def test_help_of_a_script_starts_nothing(tmp_path, name):
    script = source_dir() / "scripts" / name
    result = subprocess.run([script, "--help"], cwd=tmp_path, text=True, capture_output=True, timeout=60,
                            env={"PATH": "/usr/bin:/bin"})
    assert (result.returncode, result.stderr) == (0, "")
    first_line = script.read_text().splitlines()[1].removeprefix("# ")
    assert result.stdout.startswith("usage: " if name == "bench" else first_line + "\n")


def test_version(done):
    assert done("--version").stdout.startswith("convae ")


def test_another_libtorch_is_named_before_it_fails(program, tmp_path, monkeypatch):
    """A library before LibTorch's own says that it is version 2.9."""
    (tmp_path / "old.c").write_text("unsigned long aoti_torch_abi_version(void) {"
                                    " return 2ul << 56 | 9ul << 48; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "old.so", "old.c"], cwd=tmp_path, check=True)
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "old.so"))
    program.call("--version", cwd=tmp_path).assert_refused(1, "built for LibTorch 2.", "2.9 was loaded",
                                                           "LD_LIBRARY_PATH")


def test_no_command_shows_the_help_as_an_error(convae):
    result = convae()
    assert result.code == 2
    assert "convae COMMAND" in result.stderr
    assert result.stdout == ""
