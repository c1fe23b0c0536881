import subprocess

import numpy as np
import pytest
from PIL import Image

from convae_program import (ODD_NAMES, ONE_CORE, csv_columns, picture, pixels_of, plain_name, read_csv,
                            save_pictures)


def assert_same_pictures(a, b):
    names = sorted(path.relative_to(a) for path in a.rglob("*.png"))
    assert names and names == sorted(path.relative_to(b) for path in b.rglob("*.png"))
    for name in names:
        left, right = pixels_of(a / name), pixels_of(b / name)
        assert left.shape == right.shape and (left == right).all(), name


@pytest.fixture
def encode(done, tmp_path):
    def call(checkpoint, data, output, *options):
        result = done("encode", "--checkpoint", checkpoint, "--data", data, "-o", output, *options, *ONE_CORE)
        assert result.complaints == []
        return result
    return call


@pytest.fixture
def decode(done):
    return lambda checkpoint, latents, output: done(
        "decode", "--checkpoint", checkpoint, "--latents", latents, "-o", output, "--threads", 1)


def test_one_array_of_latents_with_its_table(encode, trained, squares, tmp_path):
    result = encode(trained.run, squares, "latents.npy")
    assert "5 latents in latents.npy" in result.stdout
    latents = np.load(tmp_path / "latents.npy", allow_pickle=False)
    assert latents.dtype == np.float32
    assert latents.shape == (5, 8, 5, 5)  # 17x20 → 9x10 → 5x5
    assert csv_columns(tmp_path / "latents.csv")[:4] == ["path", "height", "width", "index"]
    rows = read_csv(tmp_path / "latents.csv")
    assert [(row["path"], row["height"], row["width"], row["index"]) for row in rows] == \
           [(f"{i:03}.png", "17", "20", str(i)) for i in range(5)]


def test_rows_belong_to_their_images(encode, identity, squares, tmp_path):
    encode(identity, squares, "new/folder/latents.npy", "--batch-size", 2)
    latents = np.load(tmp_path / "new/folder/latents.npy")
    for row in read_csv(tmp_path / "new/folder/latents.csv"):
        image = pixels_of(squares / row["path"]).astype(np.float32) / 255
        assert np.allclose(latents[int(row["index"])], image.transpose(2, 0, 1), rtol=0, atol=1e-7)


def test_mixed_sizes_do_not_fit_one_array(convae, trained, photos, tmp_path):
    result = convae("encode", "--checkpoint", trained.run, "--data", photos, "-o", "latents.npy", *ONE_CORE)
    result.assert_refused(2, "--size N", "--pool mean", "-o DIR/", "'000.png' gives 4x4", "'001.png' 5x5")
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_share_a_latent_shape_fit(encode, done, decode, trained, tmp_path):
    save_pictures(tmp_path / "in", [(13, 16), (14, 15), (16, 13)])
    encode(trained.run, "in", "latents.npy")
    assert np.load(tmp_path / "latents.npy").shape == (3, 8, 4, 4)
    assert "3 images in decoded" in decode(trained.run, "latents.npy", "decoded").stdout
    done("reconstruct", "--checkpoint", trained.run, "--data", "in", "-o", "out", *ONE_CORE)
    assert_same_pictures(tmp_path / "decoded", tmp_path / "out")


def test_size_makes_mixed_sizes_fit_and_decode_gives_their_own_back(encode, done, decode, trained,
                                                                    photos, tmp_path):
    encode(trained.run, photos, "latents.npy", "--size", "16x18")
    assert np.load(tmp_path / "latents.npy").shape == (15, 8, 4, 5)
    decode(trained.run, "latents.npy", "decoded")
    done("reconstruct", "--checkpoint", trained.run, "--data", photos, "-o", "out", "--size", "16x18",
         *ONE_CORE)
    assert_same_pictures(tmp_path / "decoded", tmp_path / "out")
    done("decode", "--checkpoint", trained.run, "--latents", "latents.npy", "-o", "resized", "--size", "13x11")
    assert {pixels_of(path).shape[:2] for path in (tmp_path / "resized").rglob("*.png")} == {(13, 11)}


def test_pooled_latents_are_the_means_of_the_maps(encode, trained, photos, tmp_path):
    encode(trained.run, photos, "pooled.npy", "--pool", "mean")
    encode(trained.run, photos, "maps/")
    pooled = np.load(tmp_path / "pooled.npy")
    assert pooled.shape == (15, 8) and pooled.dtype == np.float32
    for row in read_csv(tmp_path / "pooled.csv"):
        latent = np.load(tmp_path / "maps" / row["path"].replace(".png", ".npy"))
        assert np.allclose(pooled[int(row["index"])], latent.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)


def test_pooled_latents_cannot_be_decoded(encode, convae, trained, squares, tmp_path):
    encode(trained.run, squares, "pooled.npy", "--pool", "mean")
    result = convae("decode", "--checkpoint", trained.run, "--latents", "pooled.npy", "-o", "out")
    result.assert_refused(1, "pooled.npy", "latents have the shape [5, 8], but this model's decoder takes "
                             "(N, 8, h, w); pooled latents cannot be decoded")


def test_a_folder_of_latents_decodes_to_the_reconstruction(encode, done, decode, trained, odd, tmp_path):
    encode(trained.run, odd, "latents/")
    table = read_csv(tmp_path / "latents" / "latents.csv")
    assert sorted(plain_name(row["path"]) for row in table) == sorted(ODD_NAMES)
    assert len(list((tmp_path / "latents").rglob("*.npy"))) == len(ODD_NAMES)
    assert np.load(tmp_path / "latents" / "plain.npy").shape == (1, 8, 4, 8)  # 13x29
    decode(trained.run, "latents", "decoded")
    done("reconstruct", "--checkpoint", trained.run, "--data", odd, "-o", "out", *ONE_CORE)
    assert_same_pictures(tmp_path / "decoded", tmp_path / "out")


def test_dense_latents_of_mixed_sizes(encode, done, decode, dense, photos, tmp_path):
    encode(dense, photos, "latents.npy")
    assert np.load(tmp_path / "latents.npy").shape == (15, 6)
    decode(dense, "latents.npy", "decoded")
    done("reconstruct", "--checkpoint", dense, "--data", photos, "-o", "out", *ONE_CORE)
    assert_same_pictures(tmp_path / "decoded", tmp_path / "out")
    for path in photos.iterdir():
        assert pixels_of(tmp_path / "decoded" / path.name).shape == pixels_of(path).shape


def test_inputs_that_share_a_stem_get_a_latent_each(encode, decode, identity, tmp_path):
    (tmp_path / "in").mkdir()
    for index, name in enumerate(("a.bmp", "a.png")):
        Image.fromarray(picture(12, 13, seed=index)).save(tmp_path / "in" / name)
    encode(identity, "in", "latents/")
    assert {path.name for path in (tmp_path / "latents").iterdir()} == {"a.npy", "a.png.npy", "latents.csv"}
    decode(identity, "latents", "out")
    assert (pixels_of(tmp_path / "out" / "a.png") == picture(12, 13, seed=0)).all()
    assert (pixels_of(tmp_path / "out" / "a.png.png") == picture(12, 13, seed=1)).all()


def test_bad_file_is_skipped_and_the_index_stays_right(encode, done, identity, squares, tmp_path):
    folder = save_pictures(tmp_path / "in", [(12, 13)] * 3)
    whole = (folder / "001.png").read_bytes()
    # Its header is whole, so that it is found out only while the others are encoded.
    (folder / "001.png").write_bytes(whole[:-40])
    result = encode(identity, "in", "latents.npy")
    assert any("'001.png'" in line and "skipped" in line for line in result.logs)
    latents = np.load(tmp_path / "latents.npy")
    rows = read_csv(tmp_path / "latents.csv")
    assert [(row["path"], row["index"]) for row in rows] == [("000.png", "0"), ("002.png", "1")]
    assert np.allclose(latents[1], picture(12, 13, seed=2).transpose(2, 0, 1) / 255, atol=1e-6)


def test_lines_for_a_closed_error_output_land_in_no_result(encode, program, identity, tmp_path):
    save_pictures(tmp_path / "in", [(64, 64)] * 100)
    for path in sorted((tmp_path / "in").iterdir())[1::2]:
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1  # found when it is decoded, while results are written
        path.write_bytes(damaged)
    encode(identity, tmp_path / "in", "open/")
    words = ["encode", "--checkpoint", identity, "--data", "in", "-o", "closed/", *ONE_CORE]
    subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", program.path, *map(str, words)], cwd=tmp_path, check=True)
    closed, opened = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
                      for name in ("closed", "open"))
    assert closed == opened


def test_a_closed_standard_output_is_an_error(program, identity, tmp_path):
    result = subprocess.run(["sh", "-c", '"$@" >&-', "sh", program.path, "info", str(identity)], cwd=tmp_path,
                            text=True, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr == "convae: cannot write the result to the standard output\n"


def test_a_table_that_numpy_users_write_is_enough(decode, identity, tmp_path):
    pixels = picture(12, 13)
    np.save(tmp_path / "own.npy", (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float64))
    (tmp_path / "own.csv").write_text("path,height,width,index\nmade/by hand.jpg,12,13,0\n")
    decode(identity, "own.npy", "out")
    assert (pixels_of(tmp_path / "out" / "made" / "by hand.png") == pixels).all()


@pytest.mark.parametrize("path", ["../outside.png", "/outside.png", "a/../../outside.png"])
def test_paths_that_lead_out_are_refused(convae, identity, tmp_path, path):
    np.save(tmp_path / "latents.npy", np.zeros((1, 3, 5, 5), np.float32))
    for name, file in ((path, ""), ("a.png", path)):
        (tmp_path / "latents.csv").write_text(f"path,height,width,index,file\n{name},5,5,0,{file}\n")
        result = convae("decode", "--checkpoint", identity, "--latents", "latents.npy", "-o", "out")
        result.assert_refused(1, "latents.csv", f"'{path}' leads out of the output folder")
    assert {entry.name for entry in tmp_path.iterdir()} == {"latents.npy", "latents.csv"}


def test_paths_that_are_written_in_two_ways_get_a_file_each(decode, identity, tmp_path):
    images = np.stack([picture(5, 6, seed=seed).transpose(2, 0, 1) for seed in range(3)])
    np.save(tmp_path / "latents.npy", (images / 255).astype(np.float32))
    (tmp_path / "latents.csv").write_text("path,height,width,index\na.png,5,6,0\n./a.png,5,6,1\n.//a.png,5,6,2\n")
    decode(identity, "latents.npy", "out")
    found = {path.name: pixels_of(path).tobytes() for path in (tmp_path / "out").iterdir()}
    assert found.keys() == {"a.png", "a.png.png", "a.png.2.png"} and len(set(found.values())) == 3


@pytest.mark.parametrize("array, row, part", [
    (np.zeros((1, 4, 5, 5), np.float32), "a.png,5,5,0", "(N, 3, h, w)"),
    (np.zeros((1, 3, 5, 5), np.float32), "a.png,6,5,0", "6x5"),
    (np.zeros((1, 3, 5, 5), np.float32), "a.png,5,5,1", "index 1"),
    (np.zeros((1, 3, 5, 5), np.float32), "a.png,5,five,0", "line 2"),
    (np.zeros((1, 3, 5, 5), np.int32), "a.png,5,5,0", "latents.npy"),
])
def test_latents_that_do_not_fit_are_explained(convae, identity, tmp_path, array, row, part):
    np.save(tmp_path / "latents.npy", array)
    (tmp_path / "latents.csv").write_text(f"path,height,width,index\n{row}\n")
    result = convae("decode", "--checkpoint", identity, "--latents", "latents.npy", "-o", "out")
    result.assert_refused(1, part)


def test_what_exists_is_replaced_only_when_asked(convae, encode, identity, squares, tmp_path):
    (tmp_path / "latents.csv").write_text("mine")
    call = ("encode", "--checkpoint", identity, "--data", squares, "-o", "latents.npy", *ONE_CORE)
    convae(*call).assert_refused(1, "latents.csv", "--overwrite")
    assert (tmp_path / "latents.csv").read_text() == "mine"
    assert not (tmp_path / "latents.npy").exists()
    encode(identity, squares, "latents.npy", "--overwrite")
    assert len(read_csv(tmp_path / "latents.csv")) == 5


def test_an_image_whose_name_ends_as_latents_do_is_not_written_over(convae, identity, squares, tmp_path):
    image = (squares / "000.png").read_bytes()
    (tmp_path / "a.npy").write_bytes(image)
    for output in ("a.npy", "./"):
        convae("encode", "--checkpoint", identity, "--data", "a.npy", "-o", output, "--overwrite",
               *ONE_CORE).assert_refused(1, "would replace 'a.npy'")
    assert (tmp_path / "a.npy").read_bytes() == image


def test_an_array_never_lies_beside_the_table_of_another(program, encode, identity, squares, photos, tmp_path):
    encode(identity, squares, "latents.npy")
    words = ["encode", "--checkpoint", identity, "--data", photos, "--size", 8, "-o", "latents.npy", "--overwrite",
             "--quiet", *ONE_CORE]
    # Neither its temporary file nor what replaces it can be made.
    (tmp_path / "latents.csv").unlink()
    (tmp_path / "latents.csv").mkdir()
    (tmp_path / "latents.csv" / "file").write_text("")
    program.call(*words, cwd=tmp_path).assert_refused(1, "latents.csv")
    assert len(np.load(tmp_path / "latents.npy")) == 5


@pytest.mark.parametrize("row, part", [("a.png,8,8,7,8,8", "asks for index 7"), (",8,8,0,8,8", "no name"),
                                       ("x/.,8,8,0,8,8", "no name")])
def test_tables_that_do_not_fit_are_refused_before_anything_is_written(convae, identity, tmp_path, row, part):
    np.save(tmp_path / "latents.npy", np.zeros((3, 3, 8, 8), np.float32))
    (tmp_path / "latents.csv").write_text("path,height,width,index,encoded_height,encoded_width\n"
                                          "b.png,8,8,1,8,8\n" + row + "\n")
    convae("decode", "--checkpoint", identity, "--latents", "latents.npy", "-o", "out").assert_refused(1, part)
    assert not (tmp_path / "out").exists()


def test_latents_that_the_decoder_cannot_use_are_refused(convae, trained, tmp_path):
    def decode(name, array):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        np.save(path, array)
        return convae("decode", "--checkpoint", trained.run, "--latents", name.split("/")[0], "-o", "out", "--size", 16)
    decode("latents.npy", np.full((1, 8, 4, 4), 3e38, np.float32)).assert_refused(1, "'latent_00000.npy'", "not finite")
    decode("empty/a.npy", np.zeros((0, 8, 4, 4), np.float32)).assert_refused(1, "a.npy", "holds 0 latents")


def test_output_that_is_neither_array_nor_folder_is_refused(convae, identity, squares):
    result = convae("encode", "--checkpoint", identity, "--data", squares, "-o", "latents.bin", *ONE_CORE)
    result.assert_refused(2, "'latents.bin'", ".npy", "/")


def test_a_table_of_larger_images_is_refused_with_the_way_out(convae, done, identity, tmp_path):
    np.save(tmp_path / "latents.npy", np.zeros((1, 3, 8, 8), np.float32))
    (tmp_path / "latents.csv").write_text("path,height,width,index,encoded_height,encoded_width\na.png,8,8,0,8,8\n")
    call = ("decode", "--checkpoint", identity, "--latents", "latents.npy", "-o", "out", "--max-pixels")
    convae(*call, 63).assert_refused(1, "'a.png' is said to be 8x8", "--max-pixels 63")
    convae(*call, 64, "--size", 9).assert_refused(2, "--size '9x9'", "--max-pixels 64")
    done(*call, 64)


def test_a_folder_without_its_table_is_decoded_with_its_subfolders(encode, done, identity, tmp_path):
    pictures = save_pictures(tmp_path / "tree", [(8, 8)] * 2)
    (pictures / "sub").mkdir()
    (pictures / "001.png").rename(pictures / "sub/001.png")
    encode(identity, pictures, "latents/")
    (tmp_path / "latents/latents.csv").unlink()
    done("decode", "--checkpoint", identity, "--latents", "latents", "-o", "out", "--size", 8)
    assert_same_pictures(tmp_path / "out", pictures)
