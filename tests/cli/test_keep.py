"""reconstruct --format keep: each file comes back as what it is.

The models give back what they are shown, so that every difference is one of writing.
"""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from convae_program import ONE_CORE, picture

RNG = np.random.default_rng(4)
HEIGHT, WIDTH = 13, 18
COLOUR = picture(HEIGHT, WIDTH)
GREY = COLOUR[..., 0]
DEEP = picture(HEIGHT, WIDTH, dtype=np.uint16)
ALPHA = RNG.integers(1, 256, (HEIGHT, WIDTH)).astype(np.uint8)
PLACE = [(33550, 12, 3, (0.5, 0.5, 0.0), True),  # ModelPixelScale
         (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0), True),  # ModelTiepoint
         (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),  # GeoKeyDirectory
         (34737, 2, 9, "WGS 84 |\0", True),  # GeoAsciiParams
         (42113, 2, 3, "-9\0", True)]  # GDAL_NODATA
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a maker"
    exif.get_ifd(0x8825)[1] = "N"  # GPS: north
    return exif


def test_grey_with_alpha_as_bmp_and_a_broken_profile(program, grey_identity, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rgba = np.dstack([GREY, GREY, GREY, ALPHA])
    header = struct.pack("<IiiHHIIiiIIIIII", 108, WIDTH, HEIGHT, 1, 32, 3, 0, 0, 0, 0, 0, 0xFF0000, 0xFF00,
                         0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    pixels = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    (folder / "rgba.bmp").write_bytes(struct.pack("<2sIII", b"BM", 122 + len(pixels), 0, 122) + header + pixels)
    Image.fromarray(GREY).save(folder / "photo.jpg", quality=95, comment=b"made by hand")
    content = (folder / "photo.jpg").read_bytes()
    marker = b"ICC_PROFILE\0\2\1" + bytes(40)  # the second of one
    (folder / "photo.jpg").write_bytes(
        content[:2] + b"\xff\xe2" + struct.pack(">H", 2 + len(marker)) + marker + content[2:])
    result = program.run("reconstruct", "--checkpoint", grey_identity, "--data", folder, "--format", "keep",
                         "-o", "out", *ONE_CORE, cwd=tmp_path)
    back = np.asarray(Image.open(tmp_path / "out/rgba.bmp"))
    assert back.shape == rgba.shape
    assert (back[..., 3] == ALPHA).all()
    assert abs(np.asarray(Image.open(tmp_path / "out/photo.jpg")).astype(int) - GREY).max() < 12
    assert any("photo.jpg" in line and "colour profile" in line for line in result.logs)
    assert any("photo.jpg" in line and "comment" in line for line in result.logs)


def write_colour_files(folder):
    rgba = np.dstack([COLOUR, ALPHA])
    Image.fromarray(rgba).save(folder / "rgba.png", dpi=(300, 300), icc_profile=SRGB)
    Image.fromarray(rgba).save(folder / "rgba.webp", lossless=True, exact=True, icc_profile=SRGB,
                               exif=exif_of(1))
    palette = Image.fromarray(COLOUR).quantize(20)
    palette.save(folder / "palette.png", transparency=bytes([0, 128, 255]))
    palette.save(folder / "palette.bmp")
    palette.save(folder / "palette.tif")
    Image.fromarray(COLOUR).save(folder / "photo.jpg", quality=95, subsampling=0, dpi=(240, 240),
                                 icc_profile=SRGB, exif=exif_of(6))
    Image.fromarray(COLOUR).save(folder / "turned.png", exif=exif_of(8))
    tifffile.imwrite(folder / "map.tif", DEEP, photometric="rgb", extratags=PLACE,
                     resolution=(72.5, 72.5), iccprofile=SRGB, description="a place")
    tifffile.imwrite(folder / "alpha.tif", np.dstack([DEEP, RNG.integers(
        1, 65536, (HEIGHT, WIDTH)).astype(np.uint16)]), photometric="rgb",
        extrasamples=["unassalpha"])
    share = ALPHA[..., None] / 255
    tifffile.imwrite(folder / "multiplied.tif", np.dstack([
        np.floor(COLOUR * share).astype(np.uint8), ALPHA]), photometric="rgb",
        extrasamples=["assocalpha"])
    tifffile.imwrite(folder / "float.tif", RNG.random((HEIGHT, WIDTH, 3)).astype(np.float32),
                     photometric="rgb", predictor=False)
    # Pillow writes no BMP with alpha.
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, 0, 3780, 3780, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    body = np.dstack([COLOUR[..., ::-1], ALPHA])[::-1].tobytes()
    (folder / "rgba.bmp").write_bytes(
        struct.pack("<2sIHHI", b"BM", 122 + len(body), 0, 0, 122) + header + masks + body)
    # A colour model, and a grey file.
    Image.fromarray(GREY).save(folder / "grey.bmp")


@pytest.fixture(scope="module")
def kept(program, identity, tmp_path_factory):
    root = tmp_path_factory.mktemp("keep")
    (root / "in").mkdir()
    write_colour_files(root / "in")
    result = program.run("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out",
                         "--format", "keep", *ONE_CORE, cwd=root)
    return root / "in", root / "out", result


def both(kept, name, read=Image.open):
    before, after, _ = kept
    return read(before / name), read(after / name)


@pytest.mark.parametrize("name", ["rgba.png", "rgba.webp", "rgba.bmp"])
def test_alpha_is_untouched_and_colours_show_the_same(kept, name):
    before, after = both(kept, name)
    assert after.mode == before.mode == "RGBA"
    before, after = np.asarray(before).astype(int), np.asarray(after).astype(int)
    assert (after[..., 3] == before[..., 3]).all()
    # Of colours behind little alpha less was left to the network.
    assert (np.abs(after - before)[..., :3] * ALPHA[..., None] / 255).max() <= 1


def test_a_bmp_says_how_many_colours_it_has(kept):
    header = (kept[1] / "palette.bmp").read_bytes()
    colours = (int.from_bytes(header[10:14], "little") - 54) // 4
    assert 0 < colours < 256 and int.from_bytes(header[46:50], "little") == colours


@pytest.mark.parametrize("name", ["palette.png", "palette.bmp", "palette.tif"])
def test_palettes_are_untouched(kept, name):
    before, after = both(kept, name)
    assert after.mode == before.mode == "P"
    assert after.getpalette()[:60] == before.getpalette()[:60]
    before, after = (np.asarray(image.convert("RGBA")).astype(int) for image in (before, after))
    assert (after[..., 3] == before[..., 3]).all()
    opaque = before[..., 3] == 255
    assert (after[opaque] == before[opaque]).all()


def test_grey_stays_grey(kept):
    before, after = both(kept, "grey.bmp")
    assert after.mode == "L" and (np.asarray(after) == np.asarray(before)).all()


def test_floats_come_back_as_floats(kept):
    before, after = both(kept, "float.tif", tifffile.imread)
    assert after.dtype == np.float32 and np.abs(after - before).max() < 1e-6


def test_tiff_keeps_place_resolution_profile_and_depth(kept):
    with tifffile.TiffFile(kept[1] / "map.tif") as file:
        page = file.pages[0]
        assert page.dtype == np.uint16 and (page.asarray() == DEEP).all()
        for tag, _, count, value, _ in PLACE:
            wanted = value.rstrip("\0") if isinstance(value, str) else value
            assert page.tags[tag].value == wanted, tag
        assert page.tags["XResolution"].value == tifffile.TiffFile(
            kept[0] / "map.tif").pages[0].tags["XResolution"].value
        assert bytes(page.iccprofile) == SRGB and page.description == "a place"


@pytest.mark.parametrize("name, kind", [("alpha.tif", 2), ("multiplied.tif", 1)])
def test_tiff_keeps_its_kind_of_alpha(kept, name, kind):
    before, after = both(kept, name, tifffile.imread)
    assert tifffile.TiffFile(kept[1] / name).pages[0].extrasamples == (kind,)
    assert after.dtype == before.dtype and (after[..., 3] == before[..., 3]).all()
    share = before[..., 3:] / np.iinfo(before.dtype).max if kind == 2 else 1
    difference = np.abs(after[..., :3].astype(float) - before[..., :3]) * share
    assert difference.max() <= 1


def test_photographs_keep_exif_profile_and_resolution_upright(kept):
    before, after = both(kept, "photo.jpg")
    assert after.size == (before.size[1], before.size[0])
    assert after.getexif()[0x0112] == 1 and after.getexif()[0x010F] == "a maker"
    assert after.getexif().get_ifd(0x8825)[1] == "N"
    assert after.info["icc_profile"] == SRGB
    assert after.info["dpi"] == pytest.approx((240, 240))
    upright = np.asarray(ImageOps.exif_transpose(before)).astype(int)
    assert np.abs(np.asarray(after) - upright).mean() < 4
    before, after = both(kept, "turned.png")
    assert after.getexif()[0x0112] == 1 and after.getexif()[0x010F] == "a maker"
    assert (np.asarray(after) == np.asarray(ImageOps.exif_transpose(before))).all()


def test_png_and_webp_keep_what_is_beside_the_picture(kept):
    png = Image.open(kept[1] / "rgba.png")
    assert png.info["icc_profile"] == SRGB and png.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    webp = Image.open(kept[1] / "rgba.webp")
    assert webp.info["icc_profile"] == SRGB and webp.getexif()[0x010F] == "a maker"
    assert Image.open(kept[1] / "rgba.bmp").info["dpi"] == pytest.approx((96, 96), abs=0.1)


def test_all_was_kept_and_nothing_else_is_said(kept):
    assert not any("not kept" in line for line in kept[2].logs)


def test_what_depends_on_the_orientation_turns_with_the_picture(done, identity, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    sideways = exif_of(6)
    sideways[0x011A], sideways[0x011B], sideways[0x0128] = 300.0, 100.0, 2
    for name in ("a.jpg", "a.png", "a.webp"):
        Image.fromarray(COLOUR).save(folder / name, dpi=(300, 100), exif=sideways, lossless=True)
    upright = exif_of(3)
    Image.fromarray(COLOUR).save(folder / "b.jpg", dpi=(300, 100), exif=upright)
    xmp = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
           b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>')
    tifffile.imwrite(folder / "c.tif", COLOUR, photometric="rgb", resolution=(300, 100), metadata=None,
                     extratags=[(274, 3, 1, 6, True), (286, 5, 1, (3, 1), True), (700, 1, len(xmp), xmp, True), *PLACE])
    result = done("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", "--format", "keep", *ONE_CORE)
    for name in ("a.jpg", "a.png", "c.tif"):
        image = Image.open(tmp_path / "out" / name)
        assert image.size == (HEIGHT, WIDTH)
        assert image.info["dpi"] == pytest.approx((100, 300), abs=0.1), name
    for name in ("a.jpg", "a.png", "a.webp"):
        exif = Image.open(tmp_path / "out" / name).getexif()
        assert (exif[0x0112], exif[0x011A], exif[0x011B]) == (1, 100, 300), name
    assert Image.open(tmp_path / "out/b.jpg").info["dpi"] == (300, 100)
    image = Image.open(tmp_path / "out/c.tif")
    assert image.getexif()[0x0112] == 1 and ImageOps.exif_transpose(image).size == image.size
    with tifffile.TiffFile(tmp_path / "out/c.tif") as file:
        assert {tag for tag, *_ in PLACE} & {tag.code for tag in file.pages[0].tags} == {34735, 34737, 42113}
    said = "\n".join(result.logs)
    for tag in (286, 33550, 33922):
        assert f"'c.tif': not kept: its tag {tag} (" in said, said


def test_what_holds_of_the_original_only_is_said(done, identity, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    tags = [(280, 3, 1, 5, True), (281, 3, 1, 250, True), (297, 3, 2, (0, 1), True),
            (301, 3, 256, tuple(range(0, 65536, 256)), True), (321, 3, 2, (10, 200), True), (340, 1, 1, 5, True),
            (341, 1, 1, 250, True)]
    tifffile.imwrite(folder / "a.tif", GREY, photometric="minisblack", extratags=tags, metadata=None)
    tifffile.imwrite(folder / "inks.tif", np.dstack([COLOUR, GREY]), photometric="separated", iccprofile=SRGB)
    Image.fromarray(COLOUR).save(folder / "notes.jpg")
    content = (folder / "notes.jpg").read_bytes()
    marker = b"Photoshop 3.0\0008BIM"
    part = b"\xff\xed" + struct.pack(">H", 2 + len(marker)) + marker
    (folder / "notes.jpg").write_bytes(content[:2] + 3 * part + content[2:])
    Image.fromarray(COLOUR).save(folder / "dots.png")
    content, dots = (folder / "dots.png").read_bytes(), b"pHYs" + bytes(8)  # which has nine
    chunk = struct.pack(">I", 8) + dots + struct.pack(">I", zlib.crc32(dots))
    (folder / "dots.png").write_bytes(content[:33] + chunk + content[33:])
    result = done("reconstruct", "--checkpoint", identity, "--data", "in", "-o", "out", "--format", "keep", *ONE_CORE)
    said = "\n".join(result.logs)
    for tag, *_ in tags:
        assert f"'a.tif': not kept: its tag {tag} (" in said, said
    assert "'inks.tif': not kept: its tag 34675 (" in said, said
    with tifffile.TiffFile(tmp_path / "out/inks.tif") as file:
        assert 34675 not in file.pages[0].tags
    assert "'notes.jpg': not kept: its IPTC data" in said, said
    assert "'dots.png': not kept: its chunk pHYs" in said, said


def test_what_cannot_be_kept_is_said(done, grey_identity, identity, tmp_path):
    for folder in ("colour", "inks"):
        (tmp_path / folder).mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(COLOUR).save(tmp_path / "colour" / name)
    result = done("reconstruct", "--checkpoint", grey_identity, "--data", "colour", "-o", "grey",
                  "--format", "keep", *ONE_CORE)
    assert any("warning: 'a.png' and 1 more like it: not kept: its colours (the model is grey)"
               in line or "warning: 'b.png' and 1 more like it: not kept: its colours" in line
               for line in result.logs)
    Image.fromarray(np.dstack([COLOUR, GREY]), "CMYK").save(tmp_path / "inks" / "c.jpg")
    Image.fromarray(COLOUR).convert("1").save(tmp_path / "inks" / "one.png")
    stack = np.stack([GREY, 255 - GREY])
    tifffile.imwrite(tmp_path / "inks" / "stack.tif", stack, imagej=True)
    result = done("reconstruct", "--checkpoint", identity, "--data", "inks", "-o", "out",
                  "--format", "keep", *ONE_CORE)
    said = "\n".join(result.logs)
    for part in ("'c.jpg': not kept: its inks (CMYK)",
                 "'one.png': not kept: samples of 1 bits (now 8)",
                 "'stack.tif': only the first of its 2 pages is read",
                 "'stack.tif': not kept: its tag 270 (ImageDescription)"):
        assert part in said, said
