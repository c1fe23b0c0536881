"""--tile: pictures larger than memory go through in tiles, with the result of the whole picture."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from convae_program import ONE_CORE, picture, pixels_of, read_csv

HEIGHT, WIDTH = 901, 1303  # the last tiles are small and odd


def large(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    grain = np.random.default_rng(3).random((height, width, 1), np.float32)
    waves = np.stack([np.sin(x / 31 + y / 57), np.cos(x / 19), np.sin(y / 23)], -1)
    return np.round(127 + 90 * waves + 30 * grain).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    pixels = large()
    tifffile.imwrite(folder / "tiles.tif", pixels, tile=(256, 256), photometric="rgb", bigtiff=True,
                     compression="zlib", resolution=(300, 300))
    Image.fromarray(pixels).save(folder / "rows.png", compress_level=1)
    Image.fromarray(picture(40, 50)).save(folder / "small.png")
    return folder


@pytest.fixture(scope="module")
def whole(program, trained, slides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    program.run("reconstruct", "--checkpoint", trained.run, "--data", slides, "-o", "out", "--format", "keep",
                *ONE_CORE, cwd=folder)
    return folder / "out"


def assert_same_table(a, b):
    a, b = read_csv(a / "reconstruct.csv"), read_csv(b / "reconstruct.csv")
    assert [(row["path"], row["width"], row["height"]) for row in a] == [
        (row["path"], row["width"], row["height"]) for row in b]
    for one, other in zip(a, b):
        for column in ("mse", "psnr", "ssim"):
            assert float(one[column]) == pytest.approx(float(other[column]), rel=1e-6)


def assert_same_pixels(a, b):
    difference = np.abs(a.astype(int) - b.astype(int))
    assert difference.max() <= 1 and difference.mean() < 1e-3  # where 8 bits are rounded


@pytest.mark.parametrize("call", [("--tile", 256), ("--tile", "auto", "--max-pixels", 500_000)])
def test_reconstructions_are_those_of_whole_pictures(done, trained, slides, whole, tmp_path, call):
    result = done("reconstruct", "--checkpoint", trained.run, "--data", slides, "-o", "out", "--format",
                  "keep", *call, *ONE_CORE)
    assert any("2 of 3 images in tiles of" in line for line in result.logs)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["reconstruct.csv", "rows.png", "small.png",
                                                           "tiles.tif"]
    assert_same_table(out, whole)
    for name in ("rows.png", "small.png"):
        assert_same_pixels(pixels_of(out / name), pixels_of(whole / name))
    with tifffile.TiffFile(out / "tiles.tif") as tiff:
        page = tiff.pages[0]
        assert page.tile == (256, 256)
        assert page.tags["XResolution"].value == (300, 1)
        assert_same_pixels(page.asarray(), tifffile.imread(whole / "tiles.tif"))


def test_tags_are_those_of_the_picture_and_not_of_a_preview_before_it(done, trained, tmp_path):
    pixels = picture(90, 110)
    (tmp_path / "in").mkdir()
    with tifffile.TiffWriter(tmp_path / "in/slide.tif") as tiff:
        tiff.write(pixels[::4, ::4].copy(), photometric="rgb", subfiletype=1, resolution=(18, 18),
                   description="a preview")
        tiff.write(pixels, photometric="rgb", tile=(32, 32), resolution=(300, 300), description="the picture",
                   extratags=[(33550, "d", 3, (0.5, 0.5, 0.0), False)])
    done("reconstruct", "--checkpoint", trained.run, "--data", "in", "-o", "out", "--format", "keep", "--tile", 64,
         *ONE_CORE)
    with tifffile.TiffFile(tmp_path / "out/slide.tif") as tiff:
        page = tiff.pages[0]
        assert page.shape == (90, 110, 3) and page.tags["XResolution"].value == (300, 1)
        assert page.description == "the picture" and page.tags[33550].value == (0.5, 0.5, 0.0)


def test_what_tiles_cannot_keep_is_said(done, trained, tmp_path):
    (tmp_path / "in").mkdir()
    colours = Image.fromarray(picture(90, 110))
    colours.quantize(16).save(tmp_path / "in/indexed.png")
    colours.quantize(16).save(tmp_path / "in/indexed.tif")
    colours.convert("1").save(tmp_path / "in/bits.png")
    colours.save(tmp_path / "in/key.png", transparency=(1, 2, 3))
    tifffile.imwrite(tmp_path / "in/half.tif", picture(90, 110)[..., 0].astype(np.float16) / 255)
    result = done("reconstruct", "--checkpoint", trained.run, "--data", "in", "-o", "out", "--format", "keep",
                  "--tile", 64, *ONE_CORE)
    said = "\n".join(line for line in result.logs if "not kept" in line)
    for part in ("'indexed.png' and 1 more like it: not kept: its palette (written in tiles)",
                 "'bits.png': not kept: samples of 1 bits (now 8)",
                 "'key.png': not kept: its alpha (written in tiles)",
                 "'half.tif': not kept: 16-bit float samples (written in tiles: 32-bit float)"):
        assert part in said, said
    assert "beside its pixels" not in said and "now alpha" not in said, "there is nothing"


def test_a_grey_model_says_in_tiles_too_that_colours_are_lost(done, grey_identity, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(picture(50, 70)).save(tmp_path / "in/a.png")
    tifffile.imwrite(tmp_path / "in/b.tif", picture(50, 70), photometric="rgb")
    result = done("reconstruct", "--checkpoint", grey_identity, "--data", "in", "-o", "out", "--format", "keep",
                  "--tile", 32, *ONE_CORE)
    [said] = [line for line in result.logs if "not kept" in line]
    assert "'a.png' and 1 more like it: not kept: its colours (the model is grey)" in said


def test_above_the_limit_they_are_skipped_unless_tiles_are_asked_for(done, trained, slides, tmp_path):
    result = done("reconstruct", "--checkpoint", trained.run, "--data", slides, "-o", "out", "--max-pixels",
                  500_000, *ONE_CORE)
    assert sum("too large: 1303 x 901" in line for line in result.logs) == 2
    assert [row["path"] for row in read_csv(tmp_path / "out" / "reconstruct.csv")] == ["small.png"]


def test_latents_and_pictures_beside_are_those_of_whole_pictures(done, trained, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(large(301, 407)).save(tmp_path / "in" / "a.png")
    Image.fromarray(255 - large(301, 407)).save(tmp_path / "in" / "b.png")
    call = ("--checkpoint", trained.run, "--data", "in", *ONE_CORE)
    for folder, tile in (("whole", ()), ("tiled", ("--tile", 64))):
        done("encode", *call, "-o", f"{folder}.npy", *tile)
        done("reconstruct", *call, "-o", folder, "--grid", "--error-map", *tile)
    assert np.load(tmp_path / "tiled.npy") == pytest.approx(np.load(tmp_path / "whole.npy"), abs=1e-5)
    assert read_csv(tmp_path / "tiled.csv") == read_csv(tmp_path / "whole.csv")
    for name in ("a.png", "grid/b.png", "error/b.png"):
        a, b = pixels_of(tmp_path / "tiled" / name), pixels_of(tmp_path / "whole" / name)
        assert a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).mean() < 0.01


def test_a_network_trains_on_crops_of_pictures_above_the_limit(done, slides, tmp_path):
    result = done("train", "--data", slides, "--levels", "4", "--crop", 32, "--max-pixels", 100_000, "--epochs",
                  2, "--val-split", 0, *ONE_CORE)
    assert any("images: 3 for training, 0 for validation, 0 skipped" in line for line in result.logs), result


def test_what_cannot_be_tiled_is_refused_with_the_reason(convae, program, trained, dense, photos, tmp_path):
    call = ("--data", photos, "-o", "out")
    run = ("--checkpoint", trained.run)
    convae("reconstruct", *run, *call, "--tile", "x").assert_refused(
        2, "--tile 'x'", "expected a side in pixels or auto")
    convae("reconstruct", *run, *call, "--tile", 8).assert_refused(2, "--tile '8'", "at least 32")
    convae("reconstruct", *run, *call, "--tile", 64, "--size", 32).assert_refused(
        2, "--tile '64': --size resizes whole pictures; leave --tile out")
    convae("reconstruct", *run, *call, "--tile", 64, "--corrupt", "noise:0.1").assert_refused(
        2, "--tile '64': --corrupt corrupts whole pictures")
    convae("encode", "--checkpoint", dense, "--data", photos, "-o", "latents/", "--tile", 64).assert_refused(
        2, "--tile '64': a dense latent sees whole pictures of 16x20 only")
    convae("score", *run, "--watch", "--data", photos, "--tile", "auto").assert_refused(
        2, "--tile with --watch")
