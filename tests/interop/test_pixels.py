"""The program sees the pixels that Pillow wrote, whatever the format and mode.

Read through a model whose latent and reconstruction are its input (see make_identity)."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from convae_program import ONE_CORE, make_identity, picture, pixels_of, read_csv

HEIGHT, WIDTH = 19, 26


def rgba():
    alpha = np.linspace(0, 255, HEIGHT * WIDTH).astype(np.uint8).reshape(HEIGHT, WIDTH, 1)
    return Image.fromarray(np.concatenate([picture(HEIGHT, WIDTH), alpha], 2), "RGBA")


def on_white(image):
    """Straight alpha on white: (H, W, 3) or (H, W) in [0, 255]."""
    pixels = np.asarray(image).astype(np.float64)
    colour, alpha = pixels[..., :-1], pixels[..., -1:] / 255
    return np.squeeze(colour * alpha + 255 * (1 - alpha))


def write_files(folder):
    """Writes every file; gives what has to be seen (colour in [0, 255]) and how exactly."""
    colour = Image.fromarray(picture(HEIGHT, WIDTH))
    grey = Image.fromarray(picture(HEIGHT, WIDTH, channels=1, seed=1))
    bits = Image.fromarray(np.asarray(grey) > 120)
    palette = colour.quantize(37)
    transparent = rgba()
    grey_alpha = Image.merge("LA", [grey, transparent.getchannel("A")])
    seen = {}

    def add(name, image, pixels, tolerance=0.5 + 1e-9, **options):
        image.save(folder / name, **options)
        pixels = np.asarray(pixels).astype(np.float64)
        seen[name] = (np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels, tolerance)

    for ending, options in (("png", {}), ("bmp", {}), ("tif", {}), ("webp", {"lossless": True})):
        add(f"rgb.{ending}", colour, colour, **options)
        add(f"grey.{ending}", grey, grey, **options)
    for ending in ("png", "bmp", "tif"):
        add(f"bits.{ending}", bits, np.asarray(bits) * 255)
        add(f"palette.{ending}", palette, palette.convert("RGB"))
    add("rgb.ppm", colour, colour)
    add("grey.pgm", grey, grey)
    add("bits.pbm", bits, np.asarray(bits) * 255)
    for ending, options in (("png", {}), ("tif", {}), ("webp", {"lossless": True, "exact": True})):
        add(f"rgba.{ending}", transparent, on_white(transparent), **options)
    for ending in ("png", "tif"):
        add(f"grey-alpha.{ending}", grey_alpha, on_white(grey_alpha))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        add(f"{compression}.tif", colour, colour, compression=compression)
    # Lossy decoders may round differently; both ends here are libjpeg's and libwebp's.
    for name, image, options in (
            ("444.jpg", colour, {"subsampling": 0}), ("420.jpg", colour, {"subsampling": 2}),
            ("progressive.jpg", colour, {"progressive": True}), ("grey.jpg", grey, {}),
            ("cmyk.jpg", colour.convert("CMYK"), {}), ("lossy.webp", colour, {"quality": 80})):
        image.save(folder / name, **options)
        with Image.open(folder / name) as written:
            pixels = np.asarray(written.convert("L" if written.mode == "L" else "RGB")).astype(float)
        seen[name] = (np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels, 2.5)
    return seen


@pytest.fixture(scope="module")
def identity(program, tmp_path_factory):
    return make_identity(program, tmp_path_factory.mktemp("identity") / "colour", 3)


@pytest.fixture(scope="module")
def grey_identity(program, tmp_path_factory):
    return make_identity(program, tmp_path_factory.mktemp("identity") / "grey", 1)


@pytest.fixture(scope="module")
def read(program, identity, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    (folder / "in").mkdir()
    seen = write_files(folder / "in")
    result = program.run("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out",
                         *ONE_CORE, cwd=folder)
    rows = {row["path"]: row for row in read_csv(folder / "out" / "reconstruct.csv")}
    program.run("encode", "--checkpoint", identity, "--data", "in", "-o", "latents.npy", "--quiet",
                *ONE_CORE, cwd=folder)
    latents = np.load(folder / "latents.npy", allow_pickle=False)
    index = {row["path"]: int(row["index"]) for row in read_csv(folder / "latents.csv")}
    return seen, rows, {name: latents[i] for name, i in index.items()}, result


def test_all_formats_and_modes_are_read(read):
    seen, rows, latents, result = read
    assert rows.keys() == latents.keys() == seen.keys(), result.logs
    assert all(float(row["mse"]) == 0 for row in rows.values()), "the model is the identity"


def test_pixels_are_those_that_pillow_wrote(read):
    seen, _, latents, _ = read
    wrong = []
    for name, (pixels, tolerance) in seen.items():
        difference = np.abs(latents[name].transpose(1, 2, 0).astype(np.float64) * 255 - pixels).max()
        if difference > tolerance + 1e-4:
            wrong.append((name, difference))
    assert not wrong


def test_sixteen_bits_and_floats_keep_their_precision(program, identity, tmp_path):
    (tmp_path / "in").mkdir()
    deep = picture(HEIGHT, WIDTH, dtype=np.uint16)
    real = np.random.default_rng(3).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    tifffile.imwrite(tmp_path / "in" / "deep.tif", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "in" / "float.tif", real, photometric="rgb")
    Image.fromarray(deep[:, :, 0]).save(tmp_path / "in" / "grey.png")
    # Another bit depth beside them must not take any of theirs.
    Image.fromarray(picture(HEIGHT, WIDTH)).save(tmp_path / "in" / "plain.png")
    program.run("encode", "--checkpoint", identity, "--data", "in", "-o", "latents.npy", "--quiet",
                *ONE_CORE, cwd=tmp_path)
    latents = np.load(tmp_path / "latents.npy").transpose(0, 2, 3, 1).astype(np.float64)
    rows = {row["path"]: latents[int(row["index"])] for row in read_csv(tmp_path / "latents.csv")}
    assert np.abs(rows["deep.tif"] - deep / 65535).max() <= 1e-7
    assert np.abs(rows["float.tif"] - real).max() <= 1e-7
    assert np.abs(rows["grey.png"] - deep[:, :, :1] / 65535).max() <= 1e-7
    assert np.abs(rows["plain.png"] - picture(HEIGHT, WIDTH) / 255).max() <= 1e-7


def test_floats_outside_the_range_are_skipped(program, identity, tmp_path):
    (tmp_path / "in").mkdir()
    for name, value in (("nan", np.nan), ("above", 1.5), ("below", -0.1), ("right", 1)):
        pixels = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)
        pixels[3, 4, 1] = value
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", pixels, photometric="rgb")
    result = program.run("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out",
                         *ONE_CORE, cwd=tmp_path)
    assert [row["path"] for row in read_csv(tmp_path / "out" / "reconstruct.csv")] == ["right.tif"]
    assert sum("skipped" in line for line in result.logs) >= 3


def test_colour_becomes_grey_by_rec_601(program, grey_identity, tmp_path):
    (tmp_path / "in").mkdir()
    pixels = picture(HEIGHT, WIDTH)
    Image.fromarray(pixels).save(tmp_path / "in" / "colour.png")
    program.run("reconstruct", "--checkpoint", grey_identity, "--data", "in", "-o", "out", "--quiet",
                *ONE_CORE, cwd=tmp_path)
    written = pixels_of(tmp_path / "out" / "colour.png")
    assert written.shape == (HEIGHT, WIDTH)
    assert np.abs(written - pixels @ np.array([0.299, 0.587, 0.114])).max() <= 0.51
