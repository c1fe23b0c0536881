"""A folder as it grows in years of use: every command reads the same of it, and says why not the rest."""

import io
import os
import re
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from convae_program import (ODD_NAMES, ONE_CORE, assert_same_tensors, picture, pixels_of, plain_name,
                            read_csv, source_dir)

FIXTURES = source_dir() / "tests" / "data" / "fixtures"
TINY = ("--levels", "4", "--epochs", "1", *ONE_CORE)

# What cannot be used, and what its reason must say.
BAD = {
    "header.jpg": "JPEG",
    "half.jpg": "JPEG",
    "half.png": "PNG",
    "empty.png": "empty file (0 bytes)",
    "words.jpg": "not an image: starts with bytes",
    "checksum.png": "damaged PNG",
    "bomb.png": "too large: 30000 x 30000",
    "huge.bmp": "too large: 2000000000",
    "zero.png": "no pixels: the header says 0 x 5",
    "zero.bmp": "no pixels",
    "animated.gif": "GIF is not supported",
    "gif named.png": "GIF is not supported",
    "animated.webp": "animated WebP is not supported",
    "float_nan.tif": "outside [0, 1]",
    "half.tif": "damaged TIFF: a part of it is missing",
    "cmyk_unmarked.jpg": "CMYK without Adobe's marker",
    "comma, \"quote\" and\nline.png": "not an image",
    "bytes\udcff.jpg": "empty file",
    "dangling.png": "the link leads nowhere",
    "loop.png": "the link leads nowhere",
    "pipe.png": "not a regular file",
    "device.png": "not a regular file",
    "album/deep.tif": "not an image",
}
IS_ROOT = os.geteuid() == 0  # who may read everything
if not IS_ROOT:
    BAD["secret.png"] = "Permission denied"
    BAD["closed"] = "the folder cannot be read"
    BAD["into closed.png"] = "the link cannot be followed: Permission denied"

GOOD = {*ODD_NAMES, "photo.JPG", "wrong ending.png", "link.png", "folder.png/inside.jpeg", "pages.tif"}


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wild") / "in"
    image = Image.fromarray(picture(24, 21))
    png, jpeg = encoded(image, "PNG"), encoded(image, "JPEG")
    gif = encoded(image, "GIF", save_all=True, append_images=[Image.fromarray(picture(24, 21, seed=1))])
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, picture(64, 64), tile=(16, 16))
    contents = {name: png for name in ODD_NAMES}
    contents["half.tif"] = tiff.getvalue()[:len(tiff.getvalue()) // 2]
    contents |= {"photo.JPG": jpeg, "wrong ending.png": jpeg, "folder.png/inside.jpeg": jpeg}
    contents |= {"header.jpg": jpeg[:100], "half.jpg": jpeg[:len(jpeg) // 2],
                 "half.png": png[:len(png) // 2], "empty.png": b"", "words.jpg": b"not an image",
                 "animated.gif": gif, "gif named.png": gif, "bytes\udcff.jpg": b"",
                 "comma, \"quote\" and\nline.png": b"words", "album/deep.tif": b"words"}
    if not IS_ROOT:
        contents |= {"secret.png": png, "closed/inside.png": png}
    # Counted by kind.
    contents |= {".hidden.png": png, "._photo.JPG": b"\0\5\x16\7", ".thumbnails/a.png": png,
                 "Thumbs.db": b"\xd0\xcf\x11\xe0", "desktop.ini": b"", "notes.txt": b"words",
                 "album/photo.png~": png}
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name in ("checksum.png", "bomb.png", "huge.bmp", "zero.png", "zero.bmp", "animated.webp",
                 "float_nan.tif", "cmyk_unmarked.jpg", "pages.tif"):
        shutil.copy(FIXTURES / name, folder)
    (folder / "link.png").symlink_to("plain.png")
    if not IS_ROOT:
        (folder / "into closed.png").symlink_to("closed/inside.png")
    (folder / "dangling.png").symlink_to("gone.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "around.png").symlink_to("..")
    (folder / "device.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    if IS_ROOT:
        yield folder
        return
    (folder / "secret.png").chmod(0)
    (folder / "closed").chmod(0)
    yield folder
    (folder / "closed").chmod(0o700)  # for whoever clears up


def skipped_in(lines):
    """{name: reason} as log lines show them."""
    found = [re.search(r"skipped '(.*)': (.*)$", line) for line in lines]
    pairs = [match.groups() for match in found if match]
    assert len(dict(pairs)) == len(pairs), "a file is named twice"
    return dict(pairs)


def notes_of_pages(result):
    return [line.split(": ", 1)[1] for line in result.logs if "pages" in line]


def test_all_commands_skip_the_same_files_for_the_same_reasons(done, wild, tmp_path):
    trained = done("train", "--data", wild, *TINY, "--val-split", 0.3, "--name", "wild")
    run = tmp_path / "runs" / "wild"
    call = ("--checkpoint", run, "--data", wild, *ONE_CORE)
    reconstructed = done("reconstruct", *call, "-o", "out")
    encoded_too = done("encode", *call, "-o", "latents/")

    table = {row["path"]: row["reason"] for row in read_csv(run / "skipped.csv")}
    assert {plain_name(name) for name in table} == BAD.keys()
    for name, reason in table.items():
        assert BAD[plain_name(name)] in reason, name
    for lines in (trained.logs, (run / "train.log").read_text().splitlines(), reconstructed.logs,
                  encoded_too.logs):
        assert skipped_in(lines) == table
    for result in (trained, reconstructed, encoded_too):
        assert f"{len(BAD)} images skipped" in result.stdout
    for results in (tmp_path / "out" / "reconstruct.csv", tmp_path / "latents" / "latents.csv"):
        assert {plain_name(row["path"]) for row in read_csv(results)} == GOOD
    counted = "passed over: 1 .db, 1 .ini, 1 .png~, 1 .txt, 3 hidden"
    for result in (trained, reconstructed, encoded_too):
        assert any(line.endswith(counted) for line in result.logs)
        assert any("lead round in a loop: 'around.png'" in line for line in result.logs)
        assert result.complaints == []
        assert notes_of_pages(result) == ["'pages.tif': only the first of its 3 pages is read"]


def test_of_a_tiff_of_several_pages_the_first_is_read(done, grey_identity, tmp_path):
    for name, fixture in (("several", "pages.tif"), ("one", "grey8.tif")):
        (tmp_path / name).mkdir()
        shutil.copy(FIXTURES / fixture, tmp_path / name / "a.tif")
    with Image.open(tmp_path / "several" / "a.tif") as several:
        first = np.array(several)
        several.seek(1)
        assert (np.array(several) != first).any()
    assert (pixels_of(tmp_path / "one" / "a.tif") == first).all()
    for name, notes in (("several", ["'a.tif': only the first of its 3 pages is read"]), ("one", [])):
        call = ("--data", name, *ONE_CORE)
        results = [
            done("train", *call, "--levels", "4", "--epochs", 2, "--val-split", 0, "--name", name),
            done("reconstruct", "--checkpoint", grey_identity, *call, "-o", f"out-{name}"),
            done("encode", "--checkpoint", grey_identity, *call, "-o", f"{name}.npy")]
        for result in results:
            assert notes_of_pages(result) == notes
        assert (pixels_of(tmp_path / f"out-{name}" / "a.png") == first).all()
        assert np.allclose(np.load(tmp_path / f"{name}.npy")[0, 0], first / 255, rtol=0, atol=1e-7)
    weights = "weights/last.safetensors"
    assert_same_tensors(tmp_path / "runs/several" / weights, tmp_path / "runs/one" / weights)
