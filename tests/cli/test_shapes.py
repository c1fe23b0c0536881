import json

import pytest


def shapes(done, size, *options):
    return json.loads(done("shapes", "--input", size, "--json", *options).stdout)


def expected_axis(n, k, s, p, d):
    """Length after the convolution, output_padding, and length without it: the design's formula."""
    span = d * (k - 1) + 1
    m = (n + 2 * p - span) // s + 1
    padding = (n + 2 * p - span) % s
    assert (m - 1) * s - 2 * p + span + padding == n
    return m, padding, n - padding


@pytest.mark.parametrize("n, m, padding, without", [(24, 12, 1, 23), (25, 13, 0, 25)])
def test_even_sizes_need_output_padding_and_odd_ones_none(done, n, m, padding, without):
    assert shapes(done, f"128x{n}x{n}", "--levels", "256") == {
        "input": [128, n, n],
        "levels": [{"conv": {"in": [128, n, n], "out": [256, m, m]},
                    "convT": {"in": [256, m, m], "output_padding": [padding, padding],
                              "without": [128, without, without], "out": [128, n, n]}}],
        "latent": [256, m, m],
        "output": [128, n, n]}


def test_text_shows_the_same(done):
    text = done("shapes", "--input", "128x24x24", "--levels", "256").stdout
    assert "128x24x24 → 256x12x12" in text
    assert "256x12x12 → 128x24x24, output_padding 1,1" in text
    assert "128x23x23" in text
    assert "(n + 2p - e) mod s" in text
    odd = done("shapes", "--input", "128x25x25", "--levels", "256").stdout
    assert "256x13x13 → 128x25x25, output_padding 0,0" in odd


def test_axes_are_apart_at_every_level(done):
    axes = [((3, 2, 1, 1), (5, 3, 2, 1)), ((4, 3, 0, 2), (3, 2, 1, 1)), ((1, 1, 0, 1), (2, 4, 1, 2))]
    levels = ",".join(
        f"{8 * (i + 1)}:k{h[0]}x{w[0]}s{h[1]}x{w[1]}p{h[2]}x{w[2]}d{h[3]}x{w[3]}"
        for i, (h, w) in enumerate(axes))
    result = shapes(done, "3x61x98", "--levels", levels)
    channels, height, width = 3, 61, 98
    for index, (vertical, horizontal) in enumerate(axes):
        (m, pad_h, without_h), (n, pad_w, without_w) = (expected_axis(height, *vertical),
                                                        expected_axis(width, *horizontal))
        level = result["levels"][index]
        assert level["conv"] == {"in": [channels, height, width], "out": [8 * (index + 1), m, n]}
        assert level["convT"] == {"in": [8 * (index + 1), m, n], "output_padding": [pad_h, pad_w],
                                  "without": [channels, without_h, without_w],
                                  "out": [channels, height, width]}
        channels, height, width = 8 * (index + 1), m, n
    assert result["latent"] == [channels, height, width]
    assert result["output"] == [3, 61, 98]


def test_settings_of_all_levels_serve_those_that_name_none(done):
    result = shapes(done, "1x30x30", "--levels", "4,8:k3s1", "--kernel", "5x3", "--stride", "3",
                    "--padding", "2x0", "--dilation", "1x2")
    assert [level["conv"]["out"] for level in result["levels"]] == [[4, 10, 9], [8, 12, 5]]


@pytest.mark.parametrize("options, latent", [
    (["--latent-channels", "5"], [5, 7, 6]), (["--latent", "10"], [10])])
def test_latent_is_what_the_bottleneck_gives(done, options, latent):
    assert shapes(done, "3x25x24", "--levels", "4,8", *options)["latent"] == latent


def test_config_describes_the_model_and_flags_win(done, tmp_path):
    (tmp_path / "model.toml").write_text("[model]\nlevels = [4, '8:s1']\nkernel = 5\n")
    for flags, expected in (([], [[4, 11, 11], [8, 9, 9]]), (["--levels", "6"], [[6, 11, 11]])):
        levels = shapes(done, "3x24x24", "--config", "model.toml", *flags)["levels"]
        assert [level["conv"]["out"] for level in levels] == expected


@pytest.mark.parametrize("size, options, parts", [
    ("3x2x9", ["--levels", "8:k5p0"], ["2x9", "level 1", "height is 2", "kernel 5", "at least 5x5"]),
    ("3x9x2", ["--levels", "8:k5p0"], ["9x2", "level 1", "width is 2"]),
    ("3x20x20", ["--levels", "8,8,8:k7p0"], ["level 3", "height is 5 there", "kernel 7"]),
])
def test_impossible_size_is_explained(convae, size, options, parts):
    convae("shapes", "--input", size, *options).assert_refused(2, *parts)


@pytest.mark.parametrize("size", ["3x24", "3x24x24x24", "3xHxW", "0x24x24", "3x-1x5", "3x0x5"])
def test_input_that_is_no_shape_is_refused(convae, size):
    convae("shapes", "--input", size).assert_refused(2)


def test_sizes_beyond_any_image_do_not_overflow(convae):
    convae("shapes", "--input", "3x9223372036854775807x24").assert_refused(2)
    convae("shapes", "--input", "1000000x1000000000x1000000000").assert_refused(2, "more than 10^15 values")
    convae("shapes", "--input", "3x24x24", "--levels", "8:k9223372036854775807").assert_refused(2)
