import math
import os
import re
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from convae_program import (ODD_NAMES, ONE_CORE, csv_columns, picture, pixels_of, plain_name, read_csv,
                            save_pictures, snapshot)

@pytest.fixture(scope="module")
def reconstructed(program, trained, odd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd-out")
    result = program.run("reconstruct", "--checkpoint", trained.run, "--data", odd, "-o", "out",
                         "--batch-size", 4, *ONE_CORE, cwd=folder)
    return folder / "out", result


def as_png(name):
    return os.path.splitext(name)[0] + ".png"


def test_tree_is_mirrored_at_exact_sizes(reconstructed, odd):
    out, _ = reconstructed
    found = {os.path.relpath(os.path.join(root, name), out)
             for root, _, names in os.walk(out) for name in names}
    assert found == {as_png(name) for name in ODD_NAMES} | {"reconstruct.csv"}
    for name in ODD_NAMES:
        image = pixels_of(out / as_png(name))
        assert image.shape == pixels_of(odd / name).shape, name
        assert image.dtype == np.uint8


def test_table_has_a_row_an_image(reconstructed):
    out, _ = reconstructed
    assert csv_columns(out / "reconstruct.csv") == "path,width,height,mse,psnr,ssim".split(",")
    rows = read_csv(out / "reconstruct.csv")
    assert sorted(plain_name(row["path"]) for row in rows) == sorted(ODD_NAMES)


def test_table_agrees_with_the_written_pixels(reconstructed, odd):
    out, _ = reconstructed
    for row in read_csv(out / "reconstruct.csv"):
        name = plain_name(row["path"])
        original = pixels_of(odd / name).astype(np.float64) / 255
        written = pixels_of(out / as_png(name)).astype(np.float64) / 255
        assert (int(row["height"]), int(row["width"])) == original.shape[:2]
        # Rounding to 8 bits moves every value by half a step at most, and so the root of the mse.
        rms = math.sqrt(np.mean((original - written) ** 2))
        assert abs(rms - math.sqrt(float(row["mse"]))) <= 0.5 / 255 + 1e-6, name
        assert float(row["psnr"]) == pytest.approx(-10 * math.log10(float(row["mse"])), abs=1e-6)


def test_ssim_is_empty_where_a_side_is_under_eleven(reconstructed):
    out, _ = reconstructed
    for row in read_csv(out / "reconstruct.csv"):
        if min(int(row["height"]), int(row["width"])) < 11:
            assert row["ssim"] == ""
        else:
            assert -1 <= float(row["ssim"]) <= 1


def test_summary_is_the_mean_of_the_table(reconstructed):
    out, result = reconstructed
    rows = read_csv(out / "reconstruct.csv")
    mse, psnr, ssim = (np.mean([float(row[measure]) for row in rows if row[measure]])
                       for measure in ("mse", "psnr", "ssim"))
    assert result.stdout == (f"{len(ODD_NAMES)} reconstructions in out: mse {mse:.6f}, PSNR {psnr:.2f} dB, "
                             f"SSIM {ssim:.4f}\n")
    assert result.complaints == []


def test_perfect_reconstruction_is_capped_at_100_db(done, identity, squares, tmp_path):
    done("reconstruct", "--checkpoint", identity, "--data", squares, "-o", "out", *ONE_CORE)
    for row in read_csv(tmp_path / "out" / "reconstruct.csv"):
        assert (float(row["mse"]), float(row["psnr"])) == (0, 100)
        assert float(row["ssim"]) == pytest.approx(1, abs=1e-6)
        assert (pixels_of(tmp_path / "out" / row["path"]) == pixels_of(squares / row["path"])).all()


def test_inputs_that_share_a_stem_get_a_file_each(done, identity, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(["a.bmp", "a.png", "a.tif", "a.png.png", "b.png"]):
        Image.fromarray(picture(12, 13, seed=index)).save(folder / name)
    done("reconstruct", "--checkpoint", identity, "--data", folder, "-o", "out", *ONE_CORE)
    written = {path.name for path in (tmp_path / "out").iterdir()} - {"reconstruct.csv"}
    assert len(written) == 5 and {"a.png", "a.png.png", "a.tif.png", "b.png"} <= written
    # Every input came back in exactly one file.
    outputs = sorted(pixels_of(tmp_path / "out" / name).tobytes() for name in written)
    assert outputs == sorted(pixels_of(path).tobytes() for path in folder.iterdir())
    assert (pixels_of(tmp_path / "out" / "a.png") == picture(12, 13, seed=0)).all()


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """One image a format, 16 bits where the format has them."""
    folder = tmp_path_factory.mktemp("formats") / "in"
    folder.mkdir()
    pixels = picture(19, 22)
    Image.fromarray(pixels).save(folder / "eight.png")
    Image.fromarray(pixels).save(folder / "eight.bmp")
    Image.fromarray(pixels).save(folder / "eight.ppm")
    Image.fromarray(pixels).save(folder / "eight.tif")
    Image.fromarray(pixels).save(folder / "eight.webp", lossless=True)
    Image.fromarray(pixels).save(folder / "eight.jpg", quality=95, subsampling=0)
    deep = picture(19, 22, dtype=np.uint16)
    tifffile.imwrite(folder / "sixteen.tiff", deep, photometric="rgb")
    Image.fromarray(deep[:, :, 0]).save(folder / "grey16.png")
    return folder


def read_any(path):
    return tifffile.imread(path) if path.suffix in (".tif", ".tiff") else pixels_of(path)


def test_keep_keeps_format_name_and_depth(done, identity, grey_identity, formats, tmp_path):
    done("reconstruct", "--checkpoint", identity, "--data", formats, "-o", "out", "--format", "keep",
         *ONE_CORE)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {path.name for path in formats.iterdir()} | {
        "reconstruct.csv"}
    for path in formats.iterdir():
        with Image.open(path) as before, Image.open(out / path.name) as after:
            assert after.format == before.format, path.name
        before, after = read_any(path), read_any(out / path.name)
        if path.name == "grey16.png":
            continue
        assert after.dtype == before.dtype, path.name
        if path.suffix == ".jpg":
            assert np.abs(after.astype(int) - before.astype(int)).mean() < 4
        else:
            assert (after == before).all(), path.name
    done("reconstruct", "--checkpoint", grey_identity, "--data", formats / "grey16.png", "-o", "grey",
         "--format", "keep", *ONE_CORE)
    after = pixels_of(tmp_path / "grey" / "grey16.png")
    assert (after == pixels_of(formats / "grey16.png")).all() and after.max() > 255


def test_sixteen_bits_come_back_as_eight_by_default(done, identity, formats, tmp_path):
    done("reconstruct", "--checkpoint", identity, "--data", formats / "sixteen.tiff", "-o", "out", *ONE_CORE)
    deep = tifffile.imread(formats / "sixteen.tiff").astype(np.float64)
    written = pixels_of(tmp_path / "out" / "sixteen.png")
    assert written.dtype == np.uint8
    assert (written == np.round(deep / 257)).all()


@pytest.mark.parametrize("orientation", [3, 6, 8, 5])
def test_exif_orientation_is_applied(done, identity, tmp_path, orientation):
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(18, 27)).save(tmp_path / "in" / "photo.png", exif=exif)
    done("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", *ONE_CORE)
    with Image.open(tmp_path / "in" / "photo.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    with Image.open(tmp_path / "out" / "photo.png") as written:
        assert written.getexif().get(0x0112, 1) == 1
        assert np.array_equal(np.asarray(written), upright)
    row = read_csv(tmp_path / "out" / "reconstruct.csv")[0]
    assert (int(row["height"]), int(row["width"])) == upright.shape[:2]


def test_grid_and_error_map(done, trained, squares, tmp_path):
    done("reconstruct", "--checkpoint", trained.run, "--data", squares, "-o", "out", "--grid",
         "--error-map", *ONE_CORE)
    out = tmp_path / "out"
    names = {path.name for path in squares.iterdir()}
    assert {path.name for path in (out / "grid").iterdir()} == names
    assert {path.name for path in (out / "error").iterdir()} == names
    for name in names:
        original, written = pixels_of(squares / name), pixels_of(out / name)
        error, grid = pixels_of(out / "error" / name), pixels_of(out / "grid" / name)
        height, width = original.shape[:2]
        assert error.shape == (height, width, 3)
        factor = grid.shape[0] // height
        assert grid.shape[0] == factor * height
        gap = (grid.shape[1] - 3 * factor * width) // 2
        columns = [grid[::factor, i * (factor * width + gap):][:, :factor * width:factor] for i in range(3)]
        assert (columns[0] == original).all()
        assert (columns[1] == written).all()
        assert (columns[2] == error).all()


@pytest.mark.parametrize("form", ["png", "keep"])
def test_folder_named_grid_does_not_collide_with_the_grids(done, identity, tmp_path, form):
    for index, name in enumerate(["a.png", "grid/a.png", "error/a.png"]):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(12, 13, seed=index)).save(tmp_path / "in" / name)
    done("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", "--grid", "--error-map",
         "--format", form, *ONE_CORE)
    written = [path for path in (tmp_path / "out").rglob("*.png")]
    assert len(written) == 9
    for index, name in enumerate(["a.png", "grid/a.png", "error/a.png"]):
        assert np.array_equal(pixels_of(tmp_path / "out" / name), picture(12, 13, seed=index)), name


def test_what_exists_is_replaced_only_when_asked(convae, done, identity, squares, tmp_path):
    call = ("reconstruct", "--checkpoint", identity, "--data", squares, "-o", "out", *ONE_CORE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "003.png").write_text("mine")
    before = snapshot(tmp_path)
    convae(*call).assert_refused(1, "003.png", "exists", "--overwrite")
    assert snapshot(tmp_path) == before
    done(*call, "--overwrite")
    assert (pixels_of(tmp_path / "out" / "003.png") == pixels_of(squares / "003.png")).all()


def test_pictures_of_an_earlier_call_are_named(done, identity, squares, tmp_path):
    call = ("reconstruct", "--checkpoint", identity, "--data", squares, "-o", "out", *ONE_CORE)
    assert not any("earlier" in line for line in done(*call, "--grid", "--error-map").logs)
    said = [line for line in done(*call, "--error-map", "--overwrite").logs if "earlier" in line]
    assert len(said) == 1 and "warning: 'out/grid' is of an earlier call" in said[0]


def test_inputs_are_not_written_over(convae, identity, squares, tmp_path):
    save_pictures(tmp_path / "in", [(12, 13)])
    before = snapshot(tmp_path / "in")
    call = ("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "in")
    convae(*call).assert_refused(1, "exists")
    convae(*call, "--overwrite").assert_refused(1, "would replace", "in/000.png", "-o")
    assert snapshot(tmp_path / "in") == before


def test_bad_file_is_skipped_and_named(done, identity, squares, tmp_path):
    folder = save_pictures(tmp_path / "in", [(12, 13)] * 2)
    whole = (squares / "000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:len(whole) // 2])
    (folder / "words.png").write_text("not an image")
    (folder / "empty.jpg").write_bytes(b"")
    result = done("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", *ONE_CORE)
    for name in ("cut.png", "words.png", "empty.jpg"):
        assert any("skipped" in line and f"'{name}'" in line for line in result.logs), name
    assert [row["path"] for row in read_csv(tmp_path / "out" / "reconstruct.csv")] == ["000.png", "001.png"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"000.png", "001.png", "reconstruct.csv"}


def test_bad_file_stops_where_none_may_be_skipped(convae, identity, tmp_path):
    save_pictures(tmp_path / "in", [(12, 13)])
    (tmp_path / "in" / "words.png").write_text("not an image")
    convae("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", "--skip-bad", "false",
           *ONE_CORE).assert_refused(1, "words.png")


def test_an_earlier_table_does_not_stay_beside_new_pictures(convae, done, identity, tmp_path):
    damaged = save_pictures(tmp_path / "in", [(12, 13)] * 3) / "002.png"
    call = ("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", "--skip-bad", "false", *ONE_CORE)
    done(*call)
    damaged.write_bytes(re.sub(rb"(?<=IDAT)..", b"\0\0", damaged.read_bytes(), count=1, flags=re.DOTALL))
    convae(*call, "--overwrite").assert_refused(1, "002.png")
    assert not (tmp_path / "out/reconstruct.csv").exists()


def test_missing_folder_and_folder_without_images(convae, identity, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, part in (("none", "does not exist"), ("empty", "no usable image")):
        result = convae("reconstruct", "--checkpoint", identity, "--data", folder, "-o", "out")
        result.assert_refused(1, folder, part)
    assert not (tmp_path / "out").exists()


def test_network_size_does_not_change_the_image_size(done, trained, photos, tmp_path):
    done("reconstruct", "--checkpoint", trained.run, "--data", photos, "-o", "out", "--size", "12x15",
         *ONE_CORE)
    for path in photos.iterdir():
        assert pixels_of(tmp_path / "out" / path.name).shape == pixels_of(path).shape


def test_drawn_defects_are_pieces_of_pictures_at_the_size_of_the_network(done, identity, tmp_path):
    for folder, side in (("small", 1), ("large", 4)):
        (tmp_path / folder).mkdir()
        for index in range(6):
            pixels = picture(24, 24, seed=index).repeat(side, 0).repeat(side, 1)
            Image.fromarray(pixels).save(tmp_path / folder / f"{index}.png")
        done("reconstruct", "--checkpoint", identity, "--data", folder, "-o", f"{folder}-out", "--size", 24,
             "--corrupt", "defects:1", "--seed", 3, *ONE_CORE)
    for index in range(6):
        with Image.open(tmp_path / f"small-out/{index}.png") as small:
            expected = np.asarray(small.resize((96, 96), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(expected - pixels_of(tmp_path / f"large-out/{index}.png")).max() <= 2, index


@pytest.mark.parametrize("command, output", [("reconstruct", "out"), ("encode", "latents.npy")])
def test_dense_model_refuses_another_size(convae, dense, photos, command, output):
    convae(command, "--checkpoint", dense, "--data", photos, "-o", output, "--size", "24",
           ).assert_refused(2, "--size '24x24'", "works at 16x20 only")


def test_run_uses_its_best_weights_and_a_file_is_taken_as_it_is(done, trained, identity, squares, tmp_path):
    # A run whose best weights cannot be mistaken for its last.
    run = shutil.copytree(trained.run, tmp_path / "run")
    shutil.copy(identity / "weights/best.safetensors", run / "weights/best.safetensors")
    psnr = {}
    for name, checkpoint in (("run", run), ("last", run / "weights/last.safetensors")):
        done("reconstruct", "--checkpoint", checkpoint, "--data", squares, "-o", name, *ONE_CORE)
        psnr[name] = float(read_csv(tmp_path / name / "reconstruct.csv")[0]["psnr"])
    assert psnr["run"] == 100
    assert psnr["last"] < 50


def test_run_without_best_weights_uses_its_last(done, trained, squares, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "run")
    (run / "weights/best.safetensors").unlink()
    result = done("reconstruct", "--checkpoint", run, "--data", squares, "-o", "out", *ONE_CORE)
    assert any("last.safetensors" in line for line in result.logs)


def test_batches_do_not_change_the_result(done, trained, photos, tmp_path):
    for size in (1, 5):
        done("reconstruct", "--checkpoint", trained.run, "--data", photos, "-o", f"out{size}",
             "--batch-size", size, *ONE_CORE)
    for path in photos.iterdir():
        one, five = (pixels_of(tmp_path / f"out{size}" / path.name).astype(int) for size in (1, 5))
        assert np.abs(one - five).max() <= 1


def test_a_folder_named_like_an_image_does_not_get_in_the_way(done, identity, tmp_path):
    (tmp_path / "in" / "a.png").mkdir(parents=True)
    for name in ("a.jpg", "a.png/b.jpg"):
        Image.fromarray(picture(12, 13)).save(tmp_path / "in" / name)
    done("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", *ONE_CORE)
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")
                     if path.is_file())
    assert written == ["a.jpg.png", "a.png/b.png", "reconstruct.csv"]


def test_sizes_beyond_reason_are_refused_before_anything_is_computed(convae, identity, squares,
                                                                     tmp_path):
    convae("reconstruct", "--checkpoint", identity, "--data", squares, "-o", "out", "--size",
           "100000x100000").assert_refused(2, "--size '100000x100000'", "--max-pixels")
    np.save(tmp_path / "l.npy", np.zeros((1, 3, 4, 4), np.float32))
    (tmp_path / "l.csv").write_text("path,height,width,index\na.png,60000,60000,0\n")
    convae("decode", "--checkpoint", identity, "--latents", "l.npy", "-o",
           "out").assert_refused(1, "60000x60000", "pixels")


def test_a_result_whose_name_would_be_too_long_is_refused_before_any_is_written(convae, trained, tmp_path):
    pictures = save_pictures(tmp_path / "long", [(8, 8)] * 2)
    (pictures / "001.png").rename(pictures / ("n" * 255))
    convae("reconstruct", "--checkpoint", trained.run, "--data", pictures, "-o", "out",
           *ONE_CORE).assert_refused(1, "nnn", "259 bytes", "--exclude")
    assert not (tmp_path / "out").exists()
