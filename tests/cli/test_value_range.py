"""--value-range: data that use a part of what their type holds, or have no range of their own."""

import json
import tomllib

import numpy as np
import pytest
import tifffile
from PIL import Image
from safetensors import safe_open

from convae_program import ONE_CORE, make_identity, picture, read_csv, read_metadata

LOW, HIGH = -1024, 3071


def numbers(dtype, seed=0):
    """Numbers of the range, but for one below and two above it where the type holds them."""
    pixels = np.random.default_rng(seed).uniform(max(LOW, np.iinfo(dtype).min if dtype != np.float32
                                                     else LOW), HIGH, (9, 11))
    pixels = pixels.astype(dtype)
    if dtype != np.uint8:
        pixels[4, 5:7] = 4000, 5000
    if dtype in (np.int16, np.int32, np.float32):
        pixels[3, 3] = -2000
    return pixels


FILES = {"u16.tif": np.uint16, "i16.tif": np.int16, "u32.tif": np.uint32, "i32.tif": np.int32,
         "f32.tif": np.float32}


@pytest.fixture(scope="module")
def model(program, tmp_path_factory):
    """Gives back what it is shown, of the range."""
    return make_identity(program, tmp_path_factory.mktemp("range") / "grey", 1, "--value-range",
                         f"{LOW}:{HIGH}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("range") / "in"
    folder.mkdir()
    for seed, (name, dtype) in enumerate(FILES.items()):
        tifffile.imwrite(folder / name, numbers(dtype, seed), photometric="minisblack")
    Image.fromarray(np.arange(99, dtype=np.uint8).reshape(9, 11)).save(folder / "u8.png")
    return folder


def stored(folder, name):
    path = folder / name
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


def test_the_network_sees_shares_of_the_range(done, model, folder, tmp_path):
    result = done("encode", "--checkpoint", model, "--data", folder, "-o", "latents.npy", *ONE_CORE)
    latents = np.load(tmp_path / "latents.npy")[:, 0]
    rows = read_csv(tmp_path / "latents.csv")
    assert {row["path"] for row in rows} == {*FILES, "u8.png"}
    for row in rows:
        exact = (stored(folder, row["path"]).astype(np.float64) - LOW) / (HIGH - LOW)
        step = 1e-6 if row["path"][0] in "if" or row["path"] == "u32.tif" else 0.5 / 65535 + 1e-6
        found = latents[int(row["index"])]
        assert np.abs(found - np.clip(exact, 0, 1)).max() <= step, row["path"]
    clipped = [line for line in result.logs if "outside the value range" in line]
    assert len(clipped) == 1 and " warning: 5 of 6 images" in clipped[0]
    assert f"{LOW}:{HIGH}: 13 (" in clipped[0]


def test_clipped_values_of_pictures_in_tiles_are_said_in_one_line(done, model, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / "in" / name, np.full((96, 96), HIGH + 1, np.uint16), photometric="minisblack")
    result = done("reconstruct", "--checkpoint", model, "--data", "in", "-o", "out", "--tile", 64, *ONE_CORE)
    assert any("2 of 2 images in tiles" in line for line in result.logs)
    clipped = [line for line in result.logs if "outside the value range" in line]
    assert len(clipped) == 1 and " warning: 2 of 2 images" in clipped[0] and "18432 (100 % of theirs)" in clipped[0]


def test_keep_undoes_it(done, model, folder, tmp_path):
    done("reconstruct", "--checkpoint", model, "--data", folder, "-o", "out", "--format", "keep",
         *ONE_CORE)
    for name in [*FILES, "u8.png"]:
        before, after = stored(folder, name), stored(tmp_path / "out", name)
        assert after.dtype == before.dtype, name
        wanted = np.clip(before.astype(np.float64), LOW, HIGH)
        assert np.abs(after - wanted).max() <= (0.01 if name == "f32.tif" else 0), name


def test_keep_writes_own_numbers_where_zero_is_white(done, model, tmp_path):
    (tmp_path / "in").mkdir()
    for name, dtype in FILES.items():
        pixels = np.tile(numbers(dtype), (6, 6))
        tifffile.imwrite(tmp_path / "in" / name, pixels, photometric="miniswhite")
    for out, tile in (("whole", ()), ("tiled", ("--tile", 32))):
        done("reconstruct", "--checkpoint", model, "--data", "in", "-o", out, "--format", "keep", *tile, *ONE_CORE)
        for name in FILES:
            before, after = stored(tmp_path / "in", name), stored(tmp_path / out, name)
            with tifffile.TiffFile(tmp_path / out / name) as file:
                assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE, name
            wanted = np.clip(before.astype(np.float64), LOW, HIGH)
            assert np.abs(after - wanted).max() <= (0 if name[0] == "u" and name != "u32.tif" else 0.01), name


def test_png_shows_shares_of_the_range(done, model, folder, tmp_path):
    done("reconstruct", "--checkpoint", model, "--data", folder / "i16.tif", "-o", "out", *ONE_CORE)
    share = np.clip((stored(folder, "i16.tif").astype(np.float64) - LOW) / (HIGH - LOW), 0, 1)
    written = np.asarray(Image.open(tmp_path / "out" / "i16.png")).astype(int)
    assert np.abs(written - share * 255).max() <= 0.5 + 1e-3


def test_auto_clips_none_of_the_images_it_is_measured_of(done, tmp_path):
    (tmp_path / "doubles").mkdir()
    for i in range(4):
        tifffile.imwrite(tmp_path / f"doubles/{i}.tif", np.random.default_rng(i).normal(0, 1000, (9, 11)))
    result = done("train", "--data", "doubles", "--levels", "2", "--epochs", 1, "--val-split", 0, "--value-range", "auto",
                  *ONE_CORE)
    assert not any(" warning" in line for line in result.logs)


def test_auto_is_that_of_the_training_images_and_stays(done, tmp_path):
    (tmp_path / "deep").mkdir()
    for i in range(6):
        deep = picture(12, 13, 1, seed=i, dtype=np.uint16) // 16
        deep[0, :2] = 7, 4095
        Image.fromarray(deep).save(tmp_path / "deep" / f"{i}.png")
    call = ("train", "--data", "deep", "--levels", "2", "--epochs", 1, "--val-split", 0, *ONE_CORE)
    result = done(*call)
    assert any("warning: the images use 6.2 % of their range" in line for line in result.logs)
    result = done(*call, "--value-range", "auto", "--name", "auto")
    assert not any(" warning" in line for line in result.logs)
    run = tmp_path / "runs" / "auto"
    assert tomllib.loads((run / "config.toml").read_text())["data"]["value-range"] == "7:4095"
    assert read_metadata(run / "weights/last.safetensors")["data"]["value-range"] == "7:4095"
    assert json.loads(done("info", run, "--json").stdout)["value-range"] == "7:4095"
    done("export", "--checkpoint", run, "--format", "safetensors", "-o", "m")
    with safe_open(tmp_path / "m", "np") as file:
        assert file.metadata()["value-range"] == "7:4095"
    done("train", "--resume", run, "--epochs", 2, "--value-range", "auto")
    assert json.loads(done("info", run, "--json").stdout)["value-range"] == "7:4095"
    # Weights bring the range they expect, also exported ones.
    for name, weights in (("init", run), ("exported", "m")):
        done("train", "--data", "deep", "--init", weights, "--levels", "2", "--epochs", 1, "--name", name,
             "--val-split", 0, "--quiet", *ONE_CORE)
        assert json.loads(done("info", f"runs/{name}", "--json").stdout)["value-range"] == "7:4095"
    # Another that is asked for counts, of whatever kind.
    for name, asked, becomes in [("all", "full", "full"), ("few", "auto", "7:4000"), ("some", "0:99", "0:99")]:
        deep[0, :2] = 7, 4000
        Image.fromarray(np.minimum(deep, 4000)).save(tmp_path / "deep" / "0.png")
        done("train", "--data", "deep", "--init", run, "--include", "0.png", "--epochs", 1, "--name", name,
             "--val-split", 0, "--value-range", asked, "--quiet", *ONE_CORE)
        config = tomllib.loads((tmp_path / "runs" / name / "config.toml").read_text())
        assert config["data"]["value-range"] == becomes


def test_clipped_values_of_validation_images_are_counted(done, tmp_path):
    for folder, top in (("in", 4095), ("val", 5000)):
        (tmp_path / folder).mkdir()
        for i in range(2):
            pixels = numbers(np.uint16, seed=i).clip(0, 4095)
            pixels[0, :3] = 0, top, top
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    result = done("train", "--data", "in", "--val", "val", "--value-range", "auto", "--levels", "2", "--max-steps", 1,
                  *ONE_CORE)
    clipped = [line for line in result.logs if "outside the value range" in line]
    assert len(clipped) == 1 and " warning: validation: 2 of 2 images" in clipped[0] and "0:4095: 4 (" in clipped[0]


def test_interpolate_begins_with_the_reconstruction(done, model, folder, tmp_path):
    (tmp_path / "two").mkdir()
    for i in range(2):
        Image.fromarray(numbers(np.uint16, seed=i)).save(tmp_path / "two" / f"{i}.png")
    done("reconstruct", "--checkpoint", model, "--data", "two", "-o", "out", *ONE_CORE)
    result = done("interpolate", "two/0.png", "two/1.png", "--checkpoint", model, "--steps", 2, "-o",
                  "between", *ONE_CORE)
    for i in range(2):
        assert any(f"'two/{i}.png' has values outside the value range {LOW}:{HIGH}" in line
                   for line in result.logs), result.logs
        step = np.asarray(Image.open(tmp_path / "between" / f"step_0000{i + 1}.png")).astype(int)
        assert np.abs(step - np.asarray(Image.open(tmp_path / "out" / f"{i}.png"))).max() <= 1


def test_without_it_such_files_are_skipped_with_the_way_out(convae, done, grey_identity, folder,
                                                             tmp_path):
    result = done("reconstruct", "--checkpoint", grey_identity, "--data", folder, "-o", "out",
                  *ONE_CORE)
    for name in ("i16.tif", "u32.tif", "i32.tif", "f32.tif"):
        line = next(line for line in result.logs if f"skipped '{name}'" in line)
        assert "--value-range" in line, line
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"u8.png", "u16.png"}


@pytest.mark.parametrize("text", ["1:0", "5", "a:b", "0:inf"])
def test_what_is_no_range_is_refused(convae, squares, text):
    convae("train", "--data", squares, "--value-range", text).assert_refused(
        2, f"--value-range '{text}'", "full, auto or LO:HI", "0:4095")


def test_a_pgm_counts_in_its_own_numbers(program, tmp_path):
    model = make_identity(program, tmp_path / "twelve", 1, "--value-range", "0:4095")
    values = np.random.default_rng(5).integers(0, 4096, (9, 11)).astype(">u2")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.pgm").write_bytes(b"P5 11 9 4095\n" + values.tobytes())
    program.run("encode", "--checkpoint", model, "--data", "in", "-o", "latents.npy", *ONE_CORE, cwd=tmp_path)
    assert np.load(tmp_path / "latents.npy")[0, 0] == pytest.approx(values / 4095, abs=2e-3)
    result = program.run("reconstruct", "--checkpoint", model, "--data", "in", "--format", "keep", "-o", "out",
                         *ONE_CORE, cwd=tmp_path)
    back = np.asarray(Image.open(tmp_path / "out/a.pgm")).astype(int)
    assert abs(back - values).max() <= 8
    assert any("4095" in line and "not kept" in line for line in result.logs)


def test_a_thumbnail_before_a_palette_picture(done, tmp_path):
    """The headers of both are read by a few kilobytes: the colours are the second's."""
    (tmp_path / "in").mkdir()
    indices = np.random.default_rng(6).integers(0, 256, (200, 220)).astype(np.uint8)
    colours = np.random.default_rng(7).integers(0, 65536, (3, 256)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "in/a.tif") as file:
        file.write(np.zeros((20, 22), np.uint8), photometric="minisblack", subfiletype=1)
        file.write(indices, photometric="palette", colormap=colours)
    assert (tmp_path / "in/a.tif").stat().st_size > 16 << 10
    result = done("train", "--data", "in", "--levels", "2", "--max-steps", 1, "--val-split", 0, *ONE_CORE)
    assert any("1 for training" in line and "3 channels" in line for line in result.logs)
