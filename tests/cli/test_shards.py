"""Tar shards in place of folders, and `convae pack`, which writes them. Python's tarfile makes and
reads them independently."""

import fcntl
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest

from convae_program import (ODD_NAMES, ONE_CORE, assert_same_tensors, csv_columns, plain_name, read_csv,
                            save_pictures, snapshot)

TRAIN = ("--levels", "4,8", "--batch-size", 4, "--val-split", 0.3, "--report", "false", *ONE_CORE)
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write_tar(path, members, format=tarfile.PAX_FORMAT):
    """`members`: names with bytes, or ready TarInfos with bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def files_of(folder):
    return [(str(path.relative_to(folder)), path.read_bytes())
            for path in sorted(folder.rglob("*")) if path.is_file()]


def listed(done, data, checkpoint, *options):
    """Names of the images that encode finds, and its result."""
    result = done("encode", "--checkpoint", checkpoint, "--data", data, "-o", "listed.npy", "--pool",
                  "mean", "--overwrite", *options, *ONE_CORE)
    return [plain_name(row["path"]) for row in read_csv("listed.csv")], result


@pytest.fixture
def names(done, identity, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda data, *options: listed(done, data, identity, *options)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The bytes of a picture."""
    folder = save_pictures(tmp_path_factory.mktemp("one"), [(8, 9)])
    return (folder / "000.png").read_bytes()


def said(result, *parts):
    return [line for line in result.logs if all(part in line for part in parts)]


def test_a_run_from_shards_is_that_of_the_folder(done, photos, tmp_path):
    done("pack", "--data", photos, "-o", "shards", "--shard-size", "4K")
    assert len(list((tmp_path / "shards").glob("photos-*.tar"))) > 2
    epochs = ("--epochs", 2, *TRAIN)
    done("train", "--data", photos, "--name", "folder", *epochs)
    data = "shards/photos-{000000..%06d}.tar" % (len(list((tmp_path / "shards").iterdir())) - 1)
    for name, shards in (("range", data), ("inside", "shards")):
        result = done("train", "--data", shards, "--name", name, *epochs)
        assert said(result, "images: ", " 0 skipped")
        for weights in ("last.safetensors", "best.safetensors"):
            assert_same_tensors(tmp_path / f"runs/folder/weights/{weights}",
                                tmp_path / f"runs/{name}/weights/{weights}")
        assert (tmp_path / f"runs/{name}/images.csv").read_text() == \
            (tmp_path / "runs/folder/images.csv").read_text()
    # All that reads images gives the same tables, and the same files.
    for name, source in (("a", photos), ("b", data)):
        common = ("--checkpoint", "runs/folder", "--data", source, *ONE_CORE)
        done("reconstruct", *common, "-o", f"{name}/keep", "--format", "keep", "--grid", "true")
        done("encode", *common, "-o", f"{name}/latents/")
        done("evaluate", *common, "-o", f"{name}/evaluate")
        done("score", *common, "--good", source, "-o", f"{name}/score", "--report", "false")
        done("decode", "--checkpoint", "runs/folder", "--latents", f"{name}/latents", "-o", f"{name}/decoded")
    a, b = dict(files_of(tmp_path / "a")), dict(files_of(tmp_path / "b"))
    assert a.keys() == b.keys() and len(a) > 60
    evaluations = {"evaluate/evaluate.json"}  # has the name of the folder, and times
    assert [name for name in a if a[name] != b[name] and name not in evaluations] == []


def test_training_images_are_known_by_whatever_name_their_shards_have(done, squares, tmp_path):
    done("pack", "--data", squares, "-o", "shards", "--name", "x", "--shard-size", "1K")
    done("train", "--data", "shards", "--levels", "4", "--epochs", 1, "--val-split", 0, "--name", "run", *ONE_CORE)
    count = len(sorted((tmp_path / "shards").iterdir()))
    for data in ("shards", f"shards/x-{{000000..{count - 1:06}}}.tar", "./shards/x-000000.tar"):
        printed = done("evaluate", "--checkpoint", "runs/run", "--data", data, "--json", *ONE_CORE).stdout
        result = json.loads(printed)
        assert result["also_training_images"] == result["images"] > 0
        printed = done("evaluate", "--checkpoint", "runs/run", "--data", data, "--train-data", squares, "--json",
                       *ONE_CORE).stdout
        assert json.loads(printed)["also_training_images"] == result["images"]


def test_a_resumed_run_knows_its_shards(done, convae, photos, tmp_path):
    done("pack", "--data", photos, "-o", "shards", "--name", "x")
    done("train", "--data", "shards/x-{000000..000000}.tar", "--epochs", 1, *TRAIN)
    assert (tmp_path / "runs/x").is_dir(), "a run is named after its shards"
    done("train", "--data", "shards/x-000000.tar", "--epochs", 2, "--name", "through", *TRAIN)
    result = done("train", "--resume", "runs/x", "--epochs", 2)
    assert not said(result, "images have changed")
    shutil.copytree(photos, tmp_path / "fewer")
    (tmp_path / "fewer/000.png").unlink()
    done("pack", "--data", "fewer", "-o", "shards", "--name", "x", "--overwrite")
    result = done("train", "--resume", "runs/x", "--epochs", 3)
    assert said(result, "warning", "1 removed ('000.png')")
    (tmp_path / "fewer/001.png").unlink()
    done("pack", "--data", "fewer", "-o", "shards", "--name", "x", "--overwrite")
    convae("train", "--resume", "runs/x", "--epochs", 4, "--strict").assert_refused(1, "1 removed ('001.png')")


@pytest.mark.parametrize("format", FORMATS)
def test_names_are_read_in_every_format(names, one, tmp_path, format):
    long = "d" * 90 + "/" + "x" * 90 + ".png"
    usual = ["a.png", "sub folder/b.png", "größe-日本語.png", "./dot/slash.png", long]
    if format != "ustar":
        usual += ["d" * 200 + "/" + "y" * 150 + ".png", "x" * 101 + ".png"]
    shard = write_tar(tmp_path / "x.tar", [(name, one) for name in usual], FORMATS[format])
    expected = sorted((name.removeprefix("./") for name in usual), key=str.encode)
    assert names(shard)[0] == expected


def test_gnu_tar_writes_what_is_read(names, photos, tmp_path):
    if shutil.which("tar") is None:
        pytest.skip("there is no tar")
    for format in ("v7", "oldgnu", "gnu", "ustar", "posix"):
        subprocess.run(["tar", "-C", photos, f"--format={format}", "-cf", tmp_path / "x.tar", "."], check=True)
        assert names("x.tar")[0] == sorted(path.name for path in photos.iterdir()), format


def test_members_are_images_by_the_rules_of_files(names, one, tmp_path):
    link, hard = tarfile.TarInfo("link.png"), tarfile.TarInfo("hard.png")
    link.type, hard.type = tarfile.SYMTYPE, tarfile.LNKTYPE
    link.linkname = hard.linkname = "a.png"
    pipe = tarfile.TarInfo("pipe")
    pipe.type = tarfile.FIFOTYPE
    sparse = tarfile.TarInfo("holes.png")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    write_tar(tmp_path / "x.tar", [
        ("a.png", one), ("frame.0001", one), ("none", one), ("UPPER.PNG", one), ("notes.txt", b"words"),
        ("none.0002", b"no image"), (".hidden.png", one), ("deep/.dir/b.png", one), ("deep/b.png", one),
        ("masks/a.png", one), ("deep/ground_truth/b.png", one), ("run/config.toml", b""),
        ("run/weights/last.safetensors", b""), ("run/samples/epoch_0001.png", one),
        ("out/reconstruct.csv", b"path,width,height,mse,psnr,ssim\n"), ("out/a.png", one),
        ("/absolute.png", one), ("../outside.png", one), ("deep/../../b.png", one),
        (link, b""), (hard, b""), (pipe, b""), (sparse, one)])
    found, result = names("x.tar")
    assert found == ["UPPER.PNG", "a.png", "deep/b.png", "frame.0001", "none"]
    for name in ("/absolute.png", "../outside.png", "deep/../../b.png"):
        assert said(result, "warning", f"'{name}'", "leads out of the shard 'x.tar'"), result.stderr
    assert said(result, "warning", "'deep/../../b.png'", "its name has '..' or is absolute")
    assert said(result, "warning", "'link.png'", "a link") and said(result, "warning", "'hard.png'", "a link")
    assert said(result, "warning", "'holes.png'", "sparse")
    assert said(result, "left out as masks", "'masks'", "'deep/ground_truth'")
    assert said(result, "left out as results of convae", "'out'", "'run'")
    assert said(result, "passed over", "1 .txt", "2 hidden", "1 not a regular file", "1 without an ending")
    assert names("x.tar", "--include", "deep/**", "--exclude", "*ground_truth*")[0] == \
        ["deep/b.png"]
    assert names("x.tar", "--include", "masks/*")[0] == ["masks/a.png"]


def test_pictures_of_results_at_the_top_of_a_shard_are_left_out(names, one, tmp_path):
    write_tar(tmp_path / "x.tar", [("a.png", one), ("scores.csv", b"path\n"), ("summary.json", b"{}"),
                                   ("heat/a.png", one), ("overlay/a.png", one), ("deep/heat/a.png", one)])
    found, result = names("x.tar")
    assert found == ["a.png", "deep/heat/a.png"]
    assert said(result, "left out as results of convae: 'heat', 'overlay'")
    assert names("x.tar", "--include", "heat/*")[0] == ["heat/a.png"]


def test_a_name_in_two_shards_has_the_stem_in_front(names, one, tmp_path):
    write_tar(tmp_path / "s/x-001.tar", [("a.png", one), ("b.png", one), ("b.png", one)])
    write_tar(tmp_path / "s/x-002.tar", [("a.png", one), ("c.png", one)])
    found, result = names("s")
    assert found == ["b.png", "c.png", "x-001/a.png", "x-002/a.png"]
    assert said(result, "'b.png'", "a later member of that name counts")
    assert names("s/x-{001..002}.tar")[0] == found
    assert names("s/x-001.tar")[0] == ["a.png", "b.png"]
    shutil.copytree(tmp_path / "s", tmp_path / "t/deep")
    shutil.copy(tmp_path / "s/x-001.tar", tmp_path / "t/x-001.tar")
    assert "deep/x-001/a.png" in names("t")[0] and "x-001/a.png" in names("t")[0]


def test_a_shard_that_is_cut_is_named_and_used(names, convae, identity, one, tmp_path):
    whole = write_tar(tmp_path / "x.tar", [(f"{name}.png", one) for name in "abc"]).read_bytes()
    step = 512 + -(-len(one) // 512) * 512  # of a member
    cuts = {2 * step + 512 + 10: ("2", "cut within 'c.png'"), 2 * step + 100: ("2", "within a header"),
            2 * step: ("2", "no end mark"), step + 512: ("1", "cut within 'b.png'")}
    for cut, (count, reason) in cuts.items():
        (tmp_path / "x.tar").write_bytes(whole[:cut])
        found, result = names("x.tar")
        assert found == ["a.png", "b.png"][:int(count)]
        lines = said(result, "warning", "'x.tar'", reason, f"its {count} members before that are used")
        assert len(lines) == 1, result.stderr
    damaged = bytearray(whole)
    damaged[step + 5] ^= 1
    (tmp_path / "x.tar").write_bytes(damaged)
    found, result = names("x.tar")
    assert found == ["a.png"] and said(result, "no header of a member", f"at byte {step}")
    refused = convae("encode", "--checkpoint", identity, "--data", "x.tar", "-o", "no.npy",
                     "--skip-bad", "false")
    assert refused.code == 1 and "'x.tar'" in refused.complaints[-1]


@pytest.mark.parametrize("ending, opening, tool", [
    ("tar.gz", "w:gz", "gunzip"), ("tgz", "w:gz", "gunzip"), ("tar.xz", "w:xz", "xz -d"),
    ("tar.bz2", "w:bz2", "bunzip2"), ("tar", "w:gz", "gunzip")])
def test_compressed_tars_are_refused(convae, one, tmp_path, ending, opening, tool):
    (tmp_path / "s").mkdir()
    with tarfile.open(tmp_path / f"s/x.{ending}", opening) as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(one)
        tar.addfile(info, io.BytesIO(one))
    for data in (f"s/x.{ending}", "s"):
        convae("train", "--data", data).assert_refused(1, f"'x.{ending}'", "compressed", tool, "convae pack")


def test_a_compressed_tar_does_not_hide_what_lies_beside_it(convae, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/notes.tgz").write_bytes(b"\x1f\x8b" + bytes(600))
    (tmp_path / "s/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    result = convae("train", "--data", "s")
    result.assert_refused(1, "no usable image in", "'notes.tgz': it is compressed", "1 .heic")
    assert said(result, "warning", "1 .heic files", "heif-convert")


def test_ranges(names, convae, identity, one, tmp_path):
    for number in range(8, 12):
        write_tar(tmp_path / f"x-{number:03}.tar", [(f"{number}.png", one)])
    assert names("x-{008..011}.tar")[0] == ["10.png", "11.png", "8.png", "9.png"]
    common = ("encode", "--checkpoint", identity, "-o", "no.npy", "--data")
    convae(*common, "x-{008..012}.tar").assert_refused(1, "x-012.tar", "x-{008..012}.tar", "does not exist")
    convae(*common, "x-{011..008}.tar").assert_refused(2, "x-{011..008}.tar", "counts up")
    convae(*common, "none-{1..2}.tar").assert_refused(1, "none-1.tar", "does not exist")


def test_images_beside_shards_are_used_alone(names, one, tmp_path):
    write_tar(tmp_path / "in/x.tar", [("b.png", one)])
    (tmp_path / "in/a.png").write_bytes(one)
    found, result = names("in")
    assert found == ["a.png"]
    assert said(result, "warning", "1 .tar files lie beside images and are not read")


def test_what_lies_beside_shards_is_told_of(names, one, tmp_path):
    write_tar(tmp_path / "s/x.tar", [("a.png", one), ("notes.txt", b"words")])
    for name, content in (("words.txt", b""), ("masks/a.png", one), ("sub/words.csv", b"")):
        (tmp_path / "s" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "s" / name).write_bytes(content)
    for name in ("y.tar", "b.png"):
        (tmp_path / "s" / name).symlink_to("gone")
    found, result = names("s")
    assert found == ["a.png"]
    for name in ("y.tar", "b.png"):
        assert said(result, f"skipped '{name}': the link leads nowhere"), result.stderr
    assert said(result, "left out as masks: 'masks'")
    assert [line.split("passed over: ")[1] for line in said(result, "passed over")] == ["1 .csv, 2 .txt"]


def test_shards_beside_images_that_globs_leave_out_are_used(names, one, tmp_path):
    write_tar(tmp_path / "s/x.tar", [("01.png", one), ("1.png", one)])
    (tmp_path / "s/logo.png").write_bytes(one)
    found, result = names("s", "--exclude", "logo.png")
    assert found == ["01.png", "1.png"] and not said(result, "matches no image")
    assert said(result, "passed over: 1 by --include and --exclude")
    found, result = names("s", "--include", "0*.png", "--exclude", "typo*")
    assert found == ["01.png"] and said(result, "warning", "--exclude 'typo*' matches no image")


def test_watch_refuses_shards(convae, one, tmp_path):
    write_tar(tmp_path / "s/x.tar", [("a.png", one)])
    for data in ("s/x.tar", "s"):
        result = convae("score", "--checkpoint", "none", "--data", data, "--watch")
        assert result.code == 2 and "shards" in result.complaints[-1] and "--watch" in result.complaints[-1]


def test_members_are_kept_from_run_to_run(done, photos, tmp_path):
    done("pack", "--data", photos, "-o", "s")
    train = ("train", "--data", "s", "--max-steps", 1, "--name", "x", *TRAIN)
    done(*train)
    kept = list((tmp_path / "runs/.index").glob("*.tar.txt"))
    assert len(kept) == 1
    before = snapshot(tmp_path / "runs/.index")
    done(*train)
    assert snapshot(tmp_path / "runs/.index") == before, "nothing had to be read again"
    shutil.copytree(photos, tmp_path / "fewer")
    (tmp_path / "fewer/003.png").unlink()
    done("pack", "--data", "fewer", "-o", "s", "--name", "photos", "--overwrite")
    done(*train)
    assert "003.png" not in (tmp_path / "runs/x-3/images.csv").read_text()
    kept[0].write_text(kept[0].read_text().replace("000.png", "999.png"))
    done(*train)
    assert "999.png" not in (tmp_path / "runs/x-4/images.csv").read_text(), "a damaged index is not used"


def test_pack_keeps_names_and_bytes(done, odd, tmp_path):
    result = done("pack", "--data", odd, "-o", "a", "--name", "odd", "--shard-size", "2K")
    shards = sorted((tmp_path / "a").iterdir())
    assert [shard.name for shard in shards] == [f"odd-{i:06}.tar" for i in range(len(shards))]
    assert result.stdout.startswith(
        f"{len(ODD_NAMES)} images in {len(shards)} shards, {sum(s.stat().st_size for s in shards)} bytes")
    members = {}
    for shard in shards:
        with tarfile.open(shard, encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                members[member.name] = tar.extractfile(member).read()
    assert list(members) == sorted(ODD_NAMES, key=lambda name: name.encode("utf-8", "surrogateescape"))
    assert all((odd / name).read_bytes() == content for name, content in members.items())
    # Again, from the shards themselves: the same bytes.
    done("pack", "--data", "a", "-o", "b", "--name", "odd", "--shard-size", "2K")
    assert [shard.read_bytes() for shard in sorted((tmp_path / "b").iterdir())] == \
        [shard.read_bytes() for shard in shards]


def test_pack_replaces_shards_only_where_it_is_asked_to(done, convae, photos, squares, tmp_path):
    common = ("-o", "out", "--name", "x", "--shard-size", "4K")
    done("pack", "--data", photos, *common)
    before = snapshot(tmp_path / "out")
    convae("pack", "--data", squares, *common).assert_refused(1, "x-000000.tar", "--overwrite")
    assert snapshot(tmp_path / "out") == before
    done("pack", "--data", squares, "-o", "out", "--name", "x", "--overwrite")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x-000000.tar"], "no shard of the larger set is left"
    with tarfile.open(tmp_path / "out/x-000000.tar") as tar:
        assert tar.getnames() == [f"{i:03}.png" for i in range(5)]


def test_pack_leaves_other_tars_of_a_similar_name(done, photos, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("x-20240131.tar", "x-240131.tar", "x-000009.tar"):
        (tmp_path / "out" / name).write_text("precious")
    done("pack", "--data", photos, "-o", "out", "--name", "x")
    done("pack", "--data", photos, "-o", "out", "--name", "x", "--overwrite")
    assert len([path for path in (tmp_path / "out").iterdir() if path.read_bytes() == b"precious"]) == 3


def test_a_folder_named_as_the_next_shard_is_left_alone(done, photos, tmp_path):
    (tmp_path / "out/x-000001.tar").mkdir(parents=True)
    done("pack", "--data", photos, "-o", "out", "--name", "x")
    done("pack", "--data", photos, "-o", "out", "--name", "x", "--overwrite")
    assert (tmp_path / "out/x-000001.tar").is_dir()


@pytest.mark.parametrize("data", ["s", "s/x-{000000..000001}.tar"])
def test_shards_that_could_not_be_read_are_not_replaced(done, convae, photos, tmp_path, data):
    done("pack", "--data", photos, "-o", "s", "--name", "x", "--shard-size", "4K")
    shard = tmp_path / "s/x-000001.tar"
    damaged = bytearray(shard.read_bytes())
    damaged[0] ^= 1
    shard.write_bytes(damaged)
    before = snapshot(tmp_path / "s")
    convae("pack", "--data", data, "-o", "s", "--name", "x", "--overwrite").assert_refused(
        1, ".tar' would be replaced", "could not be read", "choose another -o")
    assert snapshot(tmp_path / "s") == before
    done("pack", "--data", data, "-o", "elsewhere", "--name", "x")


def test_packing_a_set_in_its_place_loses_nothing(done, convae, photos, one, tmp_path):
    done("pack", "--data", photos, "-o", "s", "--name", "x", "--shard-size", "4K")
    write_tar(tmp_path / "labelled/x-000000.tar", [("a.png", one), ("a.cls", b"7"), ("masks/a.png", one)])
    before = snapshot(tmp_path / "s"), snapshot(tmp_path / "labelled")
    two = "s/x-{000000..000001}.tar"
    convae("pack", "--data", two, "-o", "s", "--overwrite").assert_refused(
        1, "x-000002.tar' would be replaced", "not among the shards to pack", "name all shards")
    all_but_one = ("pack", "--data", "s", "--exclude", "000.png", "--name", "x", "--overwrite")
    convae(*all_but_one, "-o", "s").assert_refused(
        1, "x-000000.tar' would be replaced", "1 members", "would be lost", "choose another -o")
    labelled = ("pack", "--data", "labelled", "--name", "x", "--overwrite")
    convae(*labelled, "-o", "labelled").assert_refused(1, "would be replaced", "2 members")
    assert (snapshot(tmp_path / "s"), snapshot(tmp_path / "labelled")) == before
    done(*labelled, "-o", "elsewhere")
    done(*all_but_one, "-o", "elsewhere")
    done("pack", "--data", two, "-o", "s", "--name", "y")
    (tmp_path / "s/notes.txt").write_text("not in a shard")
    done("pack", "--data", "s", "--include", "*.png", "-o", "s", "--name", "z", "--overwrite")


def test_pack_skips_a_file_without_content(done, convae, photos, tmp_path):
    data = shutil.copytree(photos, tmp_path / "data")
    (data / "new.png").write_bytes(b"")
    result = done("pack", "--data", data, "-o", "s")
    assert any("skipped 'new.png': empty file" in line for line in result.logs)
    assert f"{len(list(photos.iterdir()))} images in 1 shard" in result.stdout and "1 skipped" in result.stdout
    convae("pack", "--data", data / "new.png", "-o", "new/s").assert_refused(1, "none of the images could be read")
    assert not (tmp_path / "new").exists()


def test_pack_names_globs_that_match_nothing(done, convae, photos):
    assert said(done("pack", "--data", photos, "--exclude", "typo*", "-o", "s"), "warning",
                "--exclude 'typo*' matches no image")
    convae("pack", "--data", photos / "000.png", "--exclude", "*.png", "-o", "none").assert_refused(1, "no image")


def test_long_headers_of_their_own_do_not_hide_a_member(names, one, tmp_path):
    with tarfile.open(tmp_path / "long.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("é.png")
        info.size, info.pax_headers = len(one), {"SCHILY.xattr.user.x": "x" * 40_000}
        tar.addfile(info, io.BytesIO(one))
    assert names("long.tar")[0] == ["é.png"]


def test_a_checksum_beside_shards_is_none(names, one, tmp_path):
    (tmp_path / "s").mkdir()
    write_tar(tmp_path / "s/x-000000.tar", [("a.png", one)])
    (tmp_path / "s/x-000000.tar.md5").write_text("0")
    found, result = names("s", "--skip-bad", "false")
    assert found == ["a.png"] and not said(result, "md5", "not a tar archive")


def test_one_process_at_a_time_packs_a_set(convae, photos, tmp_path):
    staging = tmp_path / "s" / ".photos.unfinished"
    staging.mkdir(parents=True)
    (staging / "of another").write_text("")
    descriptor = os.open(staging, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        convae("pack", "--data", photos, "-o", "s").assert_refused(1, "another process is packing", "s/photos")
    finally:
        os.close(descriptor)
    assert (staging / "of another").exists()
    assert convae("pack", "--data", photos, "-o", "s").code == 0 and not staging.exists()


def test_shards_may_be_packed_anew_in_their_place(done, convae, photos, tmp_path):
    done("pack", "--data", photos, "-o", "s", "--name", "x")
    whole = tarfile.open(tmp_path / "s/x-000000.tar").getnames()
    done("pack", "--data", "s/x-000000.tar", "-o", "s", "--name", "x", "--shard-size", "4K", "--overwrite")
    shards = sorted((tmp_path / "s").iterdir())
    assert [path.name for path in shards] == [f"x-{i:06}.tar" for i in range(len(shards))] and len(shards) > 1
    assert [name for path in shards for name in tarfile.open(path).getnames()] == whole


def test_names_that_no_file_can_have_are_skipped(names, one, tmp_path):
    long = "b/" + "n" * 251 + ".png"
    write_tar(tmp_path / "long.tar", [("a.png", one), ("m" * 252 + ".png", one), (long, one), ("c/.", one)])
    found, result = names("long.tar")
    assert set(found) == {"a.png", long}
    for name in ("mmmm", "'c/"):
        assert said(result, "skipped", name, "no file can have its name")


def test_pack_refuses_what_cannot_work(convae, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    convae("pack", "--data", photos).assert_refused(2, "--output")
    convae("pack", "-o", "out").assert_refused(2, "--data")
    convae("pack", "--data", "empty", "-o", "out").assert_refused(1, "no image in 'empty'")
    for size in ("0", "1X", "G", "-1"):
        convae("pack", "--data", photos, "-o", "out", "--shard-size", size).assert_refused(2, "shard-size", size)
    assert not (tmp_path / "out").exists()


def test_images_may_be_validated_on_shards(done, photos, squares, tmp_path):
    done("pack", "--data", photos, "-o", "s")
    done("pack", "--data", squares, "-o", "s2")
    result = done("train", "--data", "s", "--val", "s2/squares-000000.tar", "--max-steps", 1, *TRAIN)
    assert said(result, "images: 15 for training, 5 for validation")
    result = done("train", "--data", "s", "--val", "s/photos-000000.tar", "--max-steps", 1, *TRAIN)
    assert said(result, "all training images are validation images as well")
    assert csv_columns(tmp_path / "runs/s/images.csv") == ["path", "set"]
