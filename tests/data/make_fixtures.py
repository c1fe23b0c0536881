#!/usr/bin/env python3
"""Writes the small images that test_image_io.cpp decodes, and the pixels that must come out.

    python tests/data/make_fixtures.py        (numpy, Pillow, tifffile; any recent version)

fixtures/<name>     the images
fixtures/manifest   a line for each: name, format, height, width, channels, alpha, bits,
                    orientation, pages, tolerance, offset of its pixels in expected
fixtures/expected   (H, W, C) pixels, 16-bit ones little-endian
fixtures/refused    a line for each image that must be refused: name, part of the reason

Expected pixels of lossless files come from the arrays that were written, by the formulas of the
formats; those of lossy files from Pillow. Sizes are odd and small.
"""

import io
import pathlib
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent / "fixtures"
RNG = np.random.default_rng(7)

manifest, refused, expected = [], [], bytearray()


def add(name, data, pixels, *, alpha=False, orientation=1, pages=1, tolerance=0):
    pixels = np.ascontiguousarray(pixels)
    assert pixels.ndim == 3 and pixels.dtype in (np.uint8, np.uint16, np.float32)
    height, width, channels = pixels.shape
    (HERE / name).write_bytes(data)
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(name[-3:], name.rsplit(".", 1)[1])
    manifest.append("\t".join(map(str, [
        name, kind, height, width, channels, int(alpha), 8 * pixels.itemsize, orientation, pages,
        tolerance, len(expected)])))
    expected.extend(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())


def refuse(name, data, reason):
    (HERE / name).write_bytes(data)
    refused.append(f"{name}\t{reason}")


def over_white(colour, alpha):
    """Straight alpha on white, rounded to the nearest."""
    white = np.iinfo(colour.dtype).max
    share = alpha[..., None].astype(np.float64) / white
    return np.floor(colour * share + white * (1 - share) + 0.5).astype(colour.dtype)


def scene(height, width, channels=3):
    """A smooth picture without symmetry, for lossy formats."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [20 + 200 * x / width, 230 - 180 * y / height, 40 + 150 * (x + y) / (width + height)]
    return np.stack(planes[:channels], -1).astype(np.uint8)


def pil_bytes(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# JPEG ---------------------------------------------------------------------------------------

def jpeg_pixels(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def cmyk_light(data):
    """Pillow hands out inks; light is what they leave of white."""
    inks = np.asarray(Image.open(io.BytesIO(data))).astype(np.float64)
    return np.floor((255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255 + 0.5).astype(np.uint8)


def make_jpeg():
    picture = Image.fromarray(scene(9, 10))
    for name, options in {
        "444": {"subsampling": 0}, "420": {"subsampling": 2}, "422": {"subsampling": 1},
        "progressive": {"progressive": True}, "restart": {"restart_marker_blocks": 1},
    }.items():
        data = pil_bytes(picture, "JPEG", quality=90, **options)
        add(f"{name}.jpg", data, jpeg_pixels(data), tolerance=1)
    add("trailing_bytes.jpg", data + b"left over", jpeg_pixels(data), tolerance=1)
    # Padding before a marker is common in files from cameras.
    end = data.rindex(b"\xff\xd9")
    add("padded.jpg", data[:end] + bytes(5) + data[end:], jpeg_pixels(data), tolerance=1)
    data = pil_bytes(Image.fromarray(scene(9, 10)[..., 0]), "JPEG", quality=90)
    add("grey.jpg", data, jpeg_pixels(data), tolerance=1)
    for orientation in range(1, 9):
        data = pil_bytes(picture, "JPEG", quality=90, optimize=True,
                         exif=exif_of(orientation))
        add(f"orientation{orientation}.jpg", data, jpeg_pixels(data), orientation=orientation,
            tolerance=1)
    # Light and strong inks, so that a negative could not pass for the picture.
    inks = Image.fromarray(np.dstack([scene(9, 10), np.full((9, 10), 30, np.uint8)]), "CMYK")
    cmyk = pil_bytes(inks, "JPEG", quality=95)
    add("cmyk.jpg", cmyk, cmyk_light(cmyk), tolerance=2)
    adobe = cmyk.index(b"Adobe")
    ycck = bytearray(cmyk)
    ycck[adobe + 11] = 2  # the transform: the same samples now mean YCCK
    add("ycck.jpg", bytes(ycck), cmyk_light(bytes(ycck)), tolerance=2)
    unmarked = cmyk[:adobe - 4] + cmyk[adobe + 12:]
    refuse("cmyk_unmarked.jpg", unmarked, "CMYK without Adobe's marker")
    plain = pil_bytes(picture, "JPEG", quality=90)
    start = plain.index(b"\xff\xc0")
    deep = bytearray(plain)
    deep[start + 4] = 12
    refuse("12bit.jpg", bytes(deep), "Unsupported JPEG data precision 12")
    arithmetic = bytearray(plain)
    arithmetic[start + 1] = 0xC9
    refuse("arithmetic.jpg", bytes(arithmetic), "arithmetic coding")
    for name, sides, reason in [("wide.jpg", (65000, 65000), "too large: 65000 x 65000"),
                                ("zero.jpg", (0, 0), "Empty JPEG image")]:
        patched = bytearray(plain)
        patched[start + 5:start + 9] = struct.pack(">HH", *sides)
        refuse(name, bytes(patched), reason)


# PNG: written here, as no library writes every combination ---------------------------------------

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_rows(samples, depth):
    """(H, W, S) samples -> rows of bytes, each after its filter type 0."""
    rows = bytearray()
    for row in samples:
        flat = row.reshape(-1)
        if depth == 16:
            packed = flat.astype(">u2").tobytes()
        elif depth == 8:
            packed = flat.astype(np.uint8).tobytes()
        else:
            bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            packed = np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()
        rows += b"\0" + packed
    return bytes(rows)


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
         (1, 0, 2, 1)]


def png(samples, colour, depth, *, interlaced=False, before=b"", after=b""):
    height, width, _ = samples.shape
    if interlaced:
        parts = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7]
        raw = b"".join(pack_rows(part, depth) for part in parts if part.size)
    else:
        raw = pack_rows(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before
            + chunk(b"IDAT", zlib.compress(raw)) + after + chunk(b"IEND", b""))


def spread(samples, depth):
    return samples.astype(np.uint16) if depth == 16 else (
        samples * (255 // (2**depth - 1))).astype(np.uint8)


def make_png():
    for colour, count, depths, label in [(0, 1, (1, 2, 4, 8, 16), "grey"), (2, 3, (8, 16), "rgb"),
                                         (4, 2, (8, 16), "grey_alpha"), (6, 4, (8, 16), "rgba")]:
        for depth in depths:
            for interlaced in (False, True):
                samples = RNG.integers(0, 2**depth, (5, 7, count))
                values = spread(samples, depth)
                pixels = values[..., :1] if count < 3 else values[..., :3]
                alpha = count % 2 == 0
                if alpha:
                    pixels = over_white(pixels, values[..., -1])
                name = f"{label}{depth}{'_interlaced' if interlaced else ''}.png"
                add(name, png(samples, colour, depth, interlaced=interlaced), pixels, alpha=alpha)
            if count in (1, 3):
                key = samples[2, 3]
                packed = struct.pack(f">{count}H", *key)
                opaque = (samples != key).any(-1)
                white = 65535 if depth == 16 else 255
                add(f"{label}{depth}_key.png",
                    png(samples, colour, depth, before=chunk(b"tRNS", packed)),
                    np.where(opaque[..., None], pixels, white).astype(pixels.dtype), alpha=True)
    for depth in (1, 2, 4, 8):
        for interlaced in (False, True):
            colours = RNG.integers(0, 256, (2**depth, 3)).astype(np.uint8)
            index = RNG.integers(0, 2**depth, (5, 7, 1))
            palette = chunk(b"PLTE", colours.tobytes())
            suffix = "_interlaced" if interlaced else ""
            add(f"palette{depth}{suffix}.png",
                png(index, 3, depth, before=palette, interlaced=interlaced), colours[index[..., 0]])
    alpha = RNG.integers(0, 256, 5).astype(np.uint8)  # shorter than the palette: the rest opaque
    index = RNG.integers(0, 16, (5, 7, 1))
    alphas = np.concatenate([alpha, np.full(251, 255, np.uint8)])
    add("palette8_alpha.png",
        png(index, 3, 8, before=palette + chunk(b"tRNS", alpha.tobytes())),
        over_white(colours[index[..., 0]], alphas[index[..., 0]]), alpha=True)
    greys = np.repeat(RNG.integers(0, 256, (16, 1)), 3, 1).astype(np.uint8)
    add("palette_of_greys.png", png(index, 3, 4, before=chunk(b"PLTE", greys.tobytes())),
        greys[index[..., 0]][..., :1])
    grey_rgb = np.repeat(RNG.integers(0, 256, (3, 2, 1)), 3, 2)
    add("rgb_of_greys.png", png(grey_rgb, 2, 8), grey_rgb.astype(np.uint8))
    dot = np.array([[[1, 2, 3]]])
    add("one_pixel.png", png(dot, 2, 8), dot.astype(np.uint8))
    exif = chunk(b"eXIf", exif_of(6).tobytes()[6:])
    samples = RNG.integers(0, 256, (2, 3, 3))
    turned = np.rot90(samples, -1).astype(np.uint8)
    add("exif_before.png", png(samples, 2, 8, before=exif), turned, orientation=6)
    add("exif_after.png", png(samples, 2, 8, after=exif), turned, orientation=6)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100), 9))
    add("metadata.png", png(samples, 2, 8, before=text), samples.astype(np.uint8))
    bad_index = png(np.array([[[0], [3]]]), 3, 2, before=chunk(b"PLTE", bytes(6)))
    refuse("palette_overrun.png", bad_index, "colour 3 of a palette of 2")
    whole = bytearray(png(samples, 2, 8))
    whole[-20] ^= 1  # within the compressed data
    refuse("checksum.png", bytes(whole), "damaged PNG")

    def header_only(width, height, depth, colour):
        return (b"\x89PNG\r\n\x1a\n"
                + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))

    refuse("bomb.png", header_only(30000, 30000, 1, 0), "too large: 30000 x 30000")
    refuse("huge.png", header_only(2_000_000_000, 2_000_000_000, 8, 2), "too large: 2000000000")
    refuse("zero.png", header_only(0, 5, 8, 2), "no pixels: the header says 0 x 5")


# TIFF ---------------------------------------------------------------------------------------

def tiff_bytes(data, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, data, metadata=None, software=False, **options)
    return file.getvalue()


def set_tag(data, tag, value):
    """Changes a SHORT in the first directory of a little-endian TIFF."""
    data = bytearray(data)
    at = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        place = at + 2 + 12 * entry
        if struct.unpack_from("<H", data, place)[0] == tag:
            struct.pack_into("<H", data, place + 8, value)
            return bytes(data)
    raise KeyError(tag)


def make_tiff():
    rgb8 = RNG.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    rgb16 = RNG.integers(0, 65536, (5, 4, 3)).astype(np.uint16)
    grey8, grey16 = rgb8[..., :1], rgb16[..., :1]
    alpha8 = RNG.integers(0, 256, (7, 9)).astype(np.uint8)
    add("grey8.tif", tiff_bytes(grey8[..., 0], photometric="minisblack"), grey8)
    add("grey16_big_endian.tif",
        tiff_bytes(grey16[..., 0], photometric="minisblack", byteorder=">"), grey16)
    add("min_is_white8.tif", tiff_bytes(grey8[..., 0], photometric="miniswhite"), 255 - grey8)
    add("min_is_white16.tif", tiff_bytes(grey16[..., 0], photometric="miniswhite"),
        65535 - grey16)
    add("rgb8.tif", tiff_bytes(rgb8, photometric="rgb", rowsperstrip=4), rgb8)
    add("rgb8_bigtiff.tif", tiff_bytes(rgb8, photometric="rgb", bigtiff=True), rgb8)
    add("rgb16.tif", tiff_bytes(rgb16, photometric="rgb"), rgb16)
    planar = np.moveaxis(rgb8, -1, 0)
    add("planar.tif", tiff_bytes(planar, photometric="rgb", planarconfig="separate",
                                 rowsperstrip=5), rgb8)
    large16 = RNG.integers(0, 65536, (17, 18, 1)).astype(np.uint16)
    add("tiled16.tif", tiff_bytes(large16[..., 0], photometric="minisblack", tile=(16, 16),
                                  compression="zlib"), large16)
    add("tiled_planar.tif", tiff_bytes(planar, photometric="rgb", planarconfig="separate",
                                       tile=(16, 16), compression="zlib"), rgb8)
    rgba = np.dstack([rgb8, alpha8])
    add("straight_alpha.tif", tiff_bytes(rgba, photometric="rgb", extrasamples=["unassalpha"]),
        over_white(rgb8, alpha8), alpha=True)
    premultiplied = np.round(rgb8 * (alpha8[..., None] / 255.0)).astype(np.uint8)
    add("premultiplied.tif",
        tiff_bytes(np.dstack([premultiplied, alpha8]), photometric="rgb",
                   extrasamples=["assocalpha"]),
        premultiplied + (255 - alpha8[..., None]), alpha=True)
    add("padding.tif", tiff_bytes(rgba, photometric="rgb", extrasamples=["unspecified"]), rgb8)
    add("grey_alpha.tif",
        tiff_bytes(np.dstack([grey8, alpha8]), photometric="minisblack", planarconfig="contig",
                   extrasamples=["unassalpha"]), over_white(grey8, alpha8), alpha=True)
    real = RNG.random((5, 6)).astype(np.float32)
    real[0, :2] = 0, 1
    add("float32.tif", tiff_bytes(real, photometric="minisblack"), real[..., None])
    add("float64.tif", tiff_bytes(real.astype(np.float64), photometric="minisblack"),
        real[..., None])
    add("float_min_is_white.tif", tiff_bytes(real, photometric="miniswhite"), 1 - real[..., None])
    half = real.astype(np.float16)
    add("float16.tif", tiff_bytes(half, photometric="minisblack"),
        half.astype(np.float32)[..., None])
    for name, value in [("nan", np.nan), ("above", 1.5), ("below", -0.01)]:
        bad = real.copy()
        bad[3, 3] = value
        refuse(f"float_{name}.tif", tiff_bytes(bad, photometric="minisblack"), "outside [0, 1]")
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    index = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
    looked_up = np.moveaxis(colours[:, index], 0, -1).astype(np.uint8)
    add("palette.tif", tiff_bytes(index, photometric="palette", colormap=colours * 257), looked_up)
    add("palette_of_bytes.tif", tiff_bytes(index, photometric="palette", colormap=colours),
        looked_up)
    pages = np.stack([grey8[..., 0], 255 - grey8[..., 0], grey8[..., 0] // 2])
    add("pages.tif", tiff_bytes(pages, photometric="minisblack"), grey8, pages=3)
    bits = RNG.integers(0, 2, (5, 7)).astype(bool)
    one_bit = Image.fromarray(bits)
    lit = np.where(bits, 255, 0).astype(np.uint8)[..., None]
    for compression in ("raw", "group3", "group4", "packbits"):
        data = pil_bytes(one_bit, "TIFF", compression=None if compression == "raw" else compression)
        add(f"bits_{compression}.tif", data, lit)
    add("bits_min_is_white.tif", set_tag(pil_bytes(one_bit, "TIFF"), 262, 0), 255 - lit)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        add(f"rgb_{compression}.tif",
            pil_bytes(Image.fromarray(rgb8), "TIFF", compression=compression), rgb8)
    jpeg = pil_bytes(Image.fromarray(scene(16, 16)), "TIFF", compression="jpeg", quality=90)
    add("jpeg.tif", jpeg, np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")), tolerance=2)
    inks = RNG.integers(0, 256, (5, 6, 4)).astype(np.uint8)
    light = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    add("cmyk.tif", tiff_bytes(inks, photometric="separated"),
        np.floor(light + 0.5).astype(np.uint8))
    for orientation in range(2, 9):
        # 16 bits turned as two pictures of 8, as Pillow has no 16-bit colour.
        picture = RNG.integers(0, 65536, (3, 5, 3)).astype(np.uint16)
        high, low = [np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(
            pil_bytes(Image.fromarray(half.astype(np.uint8)), "PNG", exif=exif_of(orientation))))))
            for half in (picture >> 8, picture & 255)]
        turned = high.astype(np.uint16) << 8 | low
        data = tiff_bytes(picture, photometric="rgb",
                          extratags=[(274, "H", 1, orientation, True)])
        add(f"orientation{orientation}.tif", data, turned, orientation=orientation)
    for name, array, reason in [("int16", grey16[..., 0].astype(np.int16), "16-bit signed integer"),
                                ("uint32", grey16[..., 0].astype(np.uint32), "32-bit samples"),
                                ("complex", real.astype(np.complex64), "64-bit complex samples")]:
        refuse(f"{name}.tif", tiff_bytes(array, photometric="minisblack"), reason)
    refuse("lab.tif", set_tag(tiff_bytes(rgb8[:2], photometric="rgb"), 262, 8),
           "photometric interpretation 8")
    refuse("zero.tif", set_tag(tiff_bytes(grey8[..., 0], photometric="minisblack"), 256, 0),
           "TIFF")


# WebP ---------------------------------------------------------------------------------------

def make_webp():
    picture = scene(9, 10)
    data = pil_bytes(Image.fromarray(picture), "WEBP", quality=90)
    add("lossy.webp", data, np.asarray(Image.open(io.BytesIO(data))), tolerance=2)
    noise = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    add("lossless.webp", pil_bytes(Image.fromarray(noise), "WEBP", lossless=True), noise)
    alpha = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
    add("alpha.webp",
        pil_bytes(Image.fromarray(np.dstack([noise, alpha])), "WEBP", lossless=True, exact=True),
        over_white(noise, alpha), alpha=True)
    data = pil_bytes(Image.fromarray(np.dstack([picture, scene(9, 10)[..., 0]])), "WEBP",
                     quality=90)
    seen = np.asarray(Image.open(io.BytesIO(data)))
    add("lossy_alpha.webp", data, over_white(seen[..., :3], seen[..., 3]), alpha=True, tolerance=2)
    add("orientation8.webp",
        pil_bytes(Image.fromarray(noise), "WEBP", lossless=True, exif=exif_of(8)),
        np.rot90(noise), orientation=8)
    frames = [Image.fromarray(noise), Image.fromarray(255 - noise)]
    refuse("animated.webp",
           pil_bytes(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
           "animated WebP is not supported")


# BMP: written here as well -----------------------------------------------------------------------

def bmp(rows, width, height, depth, *, compression=0, palette=b"", masks=b"", core=False,
        header_bytes=40):
    """`rows` in the file's order; `height` negative: the first row is the top one."""
    body = b"".join(row + bytes(-len(row) % 4) for row in rows)
    if core:
        header = struct.pack("<IHHHH", 12, width, height, 1, depth)
    else:
        header = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, depth, compression,
                             0, 0, 0, len(palette) // 4, 0)
        header += masks
        header += bytes(max(0, header_bytes - len(header)))
    offset = 14 + len(header) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset) + header + palette + body


def make_bmp():
    rgb = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    bgr = [row[:, ::-1].tobytes() for row in rgb]
    add("rgb24.bmp", bmp(bgr[::-1], 7, 5, 24), rgb)
    add("top_down.bmp", bmp(bgr, 7, -5, 24), rgb)
    add("core.bmp", bmp(bgr[::-1], 7, 5, 24, core=True), rgb)
    for depth in (1, 4, 8):
        colours = RNG.integers(0, 256, (2**depth, 3)).astype(np.uint8)
        index = RNG.integers(0, 2**depth, (5, 7, 1))
        packed = pack_rows(index, depth)
        size = len(packed) // 5
        rows = [packed[y * size + 1:(y + 1) * size] for y in range(5)][::-1]
        table = b"".join(bytes([b, g, r, 0]) for r, g, b in colours.tolist())
        add(f"palette{depth}.bmp", bmp(rows, 7, 5, depth, palette=table), colours[index[..., 0]])
    x32 = [np.dstack([rgb[:, :, ::-1], RNG.integers(0, 256, (5, 7)).astype(np.uint8)])]
    add("rgb32.bmp", bmp([row.tobytes() for row in x32[0]][::-1], 7, 5, 32), rgb)
    alpha = x32[0][..., 3]
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    add("alpha32.bmp",
        bmp([row.tobytes() for row in x32[0]][::-1], 7, 5, 32, compression=3, masks=masks,
            header_bytes=124), over_white(rgb, alpha), alpha=True)
    blank = x32[0].copy()
    blank[..., 3] = 0
    add("blank_alpha32.bmp",
        bmp([row.tobytes() for row in blank][::-1], 7, 5, 32, compression=3, masks=masks,
            header_bytes=108), rgb, alpha=True)
    for name, widths, options in [
        ("555", (5, 5, 5), {}),
        ("565", (5, 6, 5), {"compression": 3, "masks": struct.pack("<III", 0xF800, 0x7E0, 0x1F)}),
    ]:
        value = [RNG.integers(0, 2**w, (5, 7)) for w in widths]
        word = (value[0] << (widths[1] + widths[2])) | (value[1] << widths[2]) | value[2]
        rows = [row.astype("<u2").tobytes() for row in word][::-1]
        pixels = np.stack([np.floor(v * 255 / (2**w - 1) + 0.5) for v, w in zip(value, widths)], -1)
        add(f"rgb{name}.bmp", bmp(rows, 7, 5, 16, **options), pixels.astype(np.uint8))
    refuse("short.bmp", bmp(bgr[1:], 7, 5, 24), "truncated BMP")
    refuse("huge.bmp", bmp([], 2_000_000_000, -2_000_000_000, 24), "too large: 2000000000")
    refuse("zero.bmp", bmp([], 0, 5, 24), "no pixels")
    refuse("palette_overrun.bmp", bmp([b"\x05\0\0\0"], 1, 1, 8, palette=bytes(8)),
           "colour 5 of a palette of 2")


# What people really have: files that others read too ----------------------------------------------

def make_tiff_of_others():
    rgb16 = RNG.integers(0, 65536, (5, 4, 3)).astype(np.uint16)
    add("rgb16_min_is_black.tif",
        tiff_bytes(rgb16, photometric="minisblack", planarconfig="contig"), rgb16)
    five = RNG.integers(0, 256, (4, 6, 5)).astype(np.uint8)
    add("five_samples.tif",
        tiff_bytes(five, photometric="minisblack", planarconfig="contig"), five[..., :3])
    add("five_planes.tif", tiff_bytes(np.moveaxis(five, -1, 0), photometric="rgb",
                                      planarconfig="separate"), five[..., :3])
    grey = [RNG.integers(0, 256, (6, 5)).astype(np.uint8) for _ in range(3)]

    def pages(*kinds):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            for picture, kind in zip(grey, kinds):
                writer.write(picture, photometric="minisblack", metadata=None, software=False,
                             subfiletype=kind)
        return file.getvalue()

    add("thumbnail_after.tif", pages(0, 1), grey[0][..., None])
    add("thumbnail_before.tif", pages(1, 0, 1), grey[1][..., None])
    add("preview.tif", pages(1), grey[0][..., None])
    file = io.BytesIO()
    tifffile.imwrite(file, np.stack(grey), imagej=True)
    whole = file.getvalue()
    add("imagej.tif", whole, grey[0][..., None], pages=3)
    # As ImageJ writes above 4 GB: one directory for all.
    link = struct.unpack_from("<I", whole, 4)[0]
    link += 2 + 12 * struct.unpack_from("<H", whole, link)[0]
    add("imagej_one_directory.tif", whole[:link] + bytes(4) + whole[link + 4:], grey[0][..., None],
        pages=3)
    file = io.BytesIO()
    tifffile.imwrite(file, np.stack(grey), truncate=True, photometric="minisblack", software=False)
    add("one_directory.tif", file.getvalue(), grey[0][..., None], pages=3)
    volume = RNG.integers(0, 256, (3, 16, 16)).astype(np.uint8)
    add("volume.tif", tiff_bytes(volume, photometric="minisblack", volumetric=True, tile=(16, 16)),
        volume[0][..., None], pages=3)
    uic2 = (33629, 5, 4, (1, 1) * 4, True)
    add("metamorph.tif", tiff_bytes(grey[0], photometric="minisblack", extratags=[uic2]),
        grey[0][..., None], pages=4)
    both = RNG.random((4, 5, 2)).astype(np.float32)
    add("float_alpha.tif", tiff_bytes(both, photometric="minisblack", planarconfig="contig",
                                      extrasamples=["unassalpha"]), both[..., :1])


def make_jpeg_of_others():
    data = pil_bytes(Image.fromarray(scene(17, 21)), "JPEG", quality=90)
    smooth = pil_bytes(Image.fromarray(scene(17, 21)), "JPEG", quality=90, progressive=True)
    for name, whole in [("", data), ("progressive_", smooth)]:
        pixels = jpeg_pixels(whole)
        add(f"{name}without_end.jpg", whole[:-2], pixels, tolerance=1)
        add(f"{name}trailer.jpg", whole[:-2] + b"\xff\x19" + b"SEFT" * 50, pixels, tolerance=1)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x112, 4, 1, 6) + bytes(4)
    turned = pil_bytes(Image.fromarray(scene(9, 10)), "JPEG", quality=90, exif=exif)
    add("orientation_long.jpg", turned, jpeg_pixels(turned), orientation=6, tolerance=1)
    # A restart marker after each row of blocks says where the data of 8 rows end.
    rows = pil_bytes(Image.fromarray(scene(40, 12)[..., 0]), "JPEG", quality=90,
                     restart_marker_rows=1)
    third = rows.index(b"\xff\xd2")  # of the markers FFD0, FFD1 …
    refuse("three_of_five_rows.jpg", rows[:third], "ends after 24 of 40 rows")
    refuse("within_a_row.jpg", rows[:third + 5], "ends after 24 of 40 rows")
    refuse("progressive_cut.jpg", smooth[:len(smooth) * 3 // 4], "of a progressive file")


def make_png_of_others():
    samples = RNG.integers(0, 256, (2, 3, 3))
    pixels = samples.astype(np.uint8)
    add("empty_exif.png", png(samples, 2, 8, before=chunk(b"eXIf", b"")), pixels)
    add("broken_note.png", png(samples, 2, 8, before=chunk(b"iCCP", b"none")), pixels)


def make_bmp_of_others():
    palette8 = RNG.integers(0, 256, (256, 3)).astype(np.uint8)
    table8 = b"".join(bytes([b, g, r, 0]) for r, g, b in palette8.tolist())

    def rle(runs, depth, palette, width, height):
        data = bmp([], width, height, depth, compression=2 if depth == 4 else 1, palette=palette)
        return data + runs

    # From the bottom: a run and single pixels; a step to the right and up; a row cut short.
    runs = bytes([3, 9, 0, 3, 1, 2, 3, 0, 0, 0,  0, 2, 2, 1, 2, 7, 0, 0,  6, 5, 0, 1])
    index = np.array([[5, 5, 5, 5, 5, 5], [0, 0, 7, 7, 0, 0], [0, 0, 0, 0, 0, 0],
                      [9, 9, 9, 1, 2, 3]])
    add("rle8.bmp", rle(runs, 8, table8, 6, 4), palette8[index])
    refuse("rle8_cut.bmp", rle(runs[:-5], 8, table8, 6, 4), "ends after 2 of 4 rows")
    runs = bytes([5, 0x12, 0, 0,  0, 5, 0x34, 0x56, 0x70, 0, 0, 0, 0, 1])
    index = np.array([[0] * 5, [3, 4, 5, 6, 7], [1, 2, 1, 2, 1]])
    add("rle4.bmp", rle(runs, 4, table8[:64], 5, 3), palette8[index])


def make_others():
    dot = Image.fromarray(scene(3, 4))
    refuse("picture.gif", pil_bytes(dot, "GIF"), "GIF is not supported; convert it to PNG")
    refuse("picture.avif", pil_bytes(dot, "AVIF"), "AVIF is not supported")
    refuse("picture.jp2", pil_bytes(dot, "JPEG2000"), "JPEG 2000 is not supported")
    refuse("words.txt", b"BMW is not a picture", "not an image: starts with bytes 42 4d 57 20")


def main():
    HERE.mkdir(exist_ok=True)
    for old in HERE.iterdir():
        old.unlink()
    for make in (make_jpeg, make_png, make_tiff, make_webp, make_bmp, make_others,
                 make_tiff_of_others, make_jpeg_of_others, make_png_of_others,
                 make_bmp_of_others):
        make()
    (HERE / "manifest").write_text("\n".join(manifest) + "\n")
    (HERE / "refused").write_text("\n".join(refused) + "\n")
    (HERE / "expected").write_bytes(bytes(expected))
    total = sum(file.stat().st_size for file in HERE.iterdir())
    print(f"{len(manifest)} images, {len(refused)} to be refused, {total} bytes in all")


if __name__ == "__main__":
    main()
