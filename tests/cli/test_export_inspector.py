"""export --part inspector: other runtimes give the program's scores and maps."""

import copy
import json
import re
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from convae_program import ONE_CORE, picture, read_csv, source_dir
from drawn_parts import GROUPS, make_parts, part, save, spoil

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated", "ignore:std..:UserWarning")

# Odd and even, sides below, at and above those whose borders count in pixels, and hardly an image.
SIZES = [(45, 51), (83, 128), (80, 97), (79, 64), (7, 2), (1, 1)]
FORMATS = ["onnx", "torchscript"]


def map_tolerance(name):
    """A black frame's map is little but rounding."""
    return 5e-3 if name == "black.png" else 1e-3


def write_images(folder, channels):
    """Parts, pictures of all sizes, and frames without anything on them."""
    folder.mkdir()
    for number in range(4):
        pixels = part(number, (41 + number, 48), channels)
        if number > 1:
            spoil(pixels, ("hole", "crack")[number % 2], number)
        save(folder / f"part{number}.png", pixels)
    images = {f"{height}x{width}": picture(height, width, channels, seed=index)
              for index, (height, width) in enumerate(SIZES)}
    images["black"] = np.zeros_like(images["83x128"])
    images["white"] = np.full_like(images["45x51"], 255)
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")


class Exported:
    """The inspector in another runtime."""

    def __init__(self, file, format):
        if format == "onnx":
            onnx.checker.check_model(onnx.load(file), full_check=True)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(file, options)
            self.metadata = self.session.get_modelmeta().custom_metadata_map
        else:
            extra = {"convae.json": ""}
            self.session = torch.jit.load(file, _extra_files=extra)
            self.metadata = json.loads(extra["convae.json"])

    def run(self, image):
        if isinstance(self.session, onnxruntime.InferenceSession):
            return self.session.run(["score", "map"], {"image": image})
        with torch.no_grad():
            return [value.numpy() for value in self.session(torch.from_numpy(image))]

    def score(self, file):
        pixels = np.asarray(Image.open(file))
        image = np.float32(pixels) / np.float32(255)
        score, heat = self.run(image[None, None] if image.ndim == 2 else image.transpose(2, 0, 1)[None])
        assert score.shape == (1,) and heat.shape == (1, 1, *pixels.shape[:2])
        return float(score[0]), heat[0, 0]


class Calibrated:
    """A calibrated run, and what the program says of pictures."""

    def __init__(self, program, folder, channels, *options):
        self.program, self.folder, self.run = program, folder, folder / "runs" / "run"
        self.parts = make_parts(folder / "parts", channels, good=8)
        program.run("train", "--data", self.parts, "--levels", "8,16", "--epochs", 3, "--val-split", 0.4,
                    "--batch-size", 8, "--name", "run", "--group-regex", GROUPS, "--report", "false", "--quiet",
                    *options, *ONE_CORE, cwd=folder)
        program.run("calibrate", "--checkpoint", self.run, "--quiet", *ONE_CORE, cwd=folder)

    def at(self, size, folder):
        """The same run, calibrated at a size (height, width), and a part of its pictures resized to that."""
        other = copy.copy(self)
        other.folder, other.run, other.size = folder, shutil.copytree(self.run, folder / "run"), "%dx%d" % size
        self.program.run("calibrate", "--checkpoint", other.run, "--size", other.size, "--quiet", *ONE_CORE, cwd=folder)
        (folder / "images").mkdir()
        for path in sorted((self.parts / "test").rglob("*.png"))[::3]:
            Image.open(path).resize(size[::-1]).save(folder / "images" / f"{path.parent.name}-{path.name}")
        return other

    def score(self, data, *args):
        """Scores by name; the maps are left in the folder."""
        self.program.run("score", "--checkpoint", self.run, "--data", data, "-o", "scores", "--report", "false",
                         "--overwrite", *args, *ONE_CORE, cwd=self.folder)
        self.summary = json.loads((self.folder / "scores/summary.json").read_text())
        return {row["path"]: float(row["score"]) for row in read_csv(self.folder / "scores/scores.csv")}

    def assert_is_heat(self, name, heat):
        """Heat maps are written in 16 bits, up to heat_full_scale."""
        near = map_tolerance(name)
        full = self.summary["heat_full_scale"]
        written = np.asarray(Image.open(self.folder / "scores/heat" / name), np.float64) / 65535 * full
        np.testing.assert_allclose(heat, written, rtol=0, atol=near, err_msg=name)

    def export(self, format, *args):
        file = self.folder / f"inspector.{format}"
        result = self.program.run("export", "--checkpoint", self.run, "--part", "inspector", "--format",
                                  format, "-o", file, "--overwrite", *args, cwd=self.folder)
        self.logs = result.logs
        return Exported(file, format), result.stdout


DETECTOR = ("--corrupt", "defects", "--detector")

# Networks whose output needs something done to it, and one whose does not.
KINDS = {"grey": (1,), "colour": (3,), "tanh": (1, "--output-activation", "tanh"),
         "linear": (3, "--output-activation", "linear", "--norm", "group"),
         "detector": (1, *DETECTOR, "4,6,8"),
         "colour-detector": (3, *DETECTOR, "4,6", "--order", "conv-act-bn", "--output-activation", "tanh"),
         "group-detector": (1, *DETECTOR, "5", "--norm", "group", "--output-activation", "linear")}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def calibrated(request, program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspector")
    write_images(folder / "images", KINDS[request.param][0])
    return Calibrated(program, folder, *KINDS[request.param])


grey = pytest.mark.parametrize("calibrated", ["grey"], indirect=True)


@pytest.mark.parametrize("calibrated", KINDS, indirect=True)
def test_other_runtimes_give_the_programs_scores_and_maps(calibrated):
    expected = calibrated.score("images")
    assert len(expected) == 12
    exported = {format: calibrated.export(format)[0] for format in FORMATS}
    for name, score in expected.items():
        results = [exported[format].score(calibrated.folder / "images" / name) for format in FORMATS]
        for other, heat in results:
            assert other == pytest.approx(score, rel=1e-4, abs=1e-4), name
            calibrated.assert_is_heat(name, heat)
        # Beyond full scale, too.
        np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-3, atol=map_tolerance(name), err_msg=name)


@grey
@pytest.mark.parametrize("format", FORMATS)
def test_the_file_says_what_it_is(calibrated, format):
    calibrated.score("images", "--fpr", 0.3)
    exported, said = calibrated.export(format, "--fpr", 0.3)
    assert said == f"inspector for images of every size in {calibrated.folder}/inspector.{format}\n"
    about = exported.metadata
    assert float(about["threshold"]) == calibrated.summary["threshold"]
    assert float(about["fpr"]) == 0.3
    assert (about["part"], about["input"], about["smallest-input"]) == ("inspector", "any", "1x1")
    assert about["range"] == ("[0,1]" if format == "onnx" else [0, 1])
    usual = calibrated.export(format)[0].metadata
    assert any("cannot show a rate of 0.01" in line for line in calibrated.logs)
    assert float(usual["fpr"]) == 0.01 and float(usual["threshold"]) > float(about["threshold"])


@grey
def test_the_example_of_the_documentation_runs(calibrated, monkeypatch, capsys):
    page = (source_dir() / "docs/export.md").read_text()
    section = page.partition("\n## Inspector\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exported, _ = calibrated.export("onnx")
    good, bad = part(3, (45, 51)), np.zeros((45, 51))
    bad[::4] = 1
    monkeypatch.chdir(calibrated.folder)
    for pixels in (good, bad):
        save(calibrated.folder / "part.png", pixels)
        exec(block, {})
        above = exported.score(calibrated.folder / "part.png")[0] > float(exported.metadata["threshold"])
        assert capsys.readouterr().out == f"{'anomalous' if above else 'good'} (1, 1, 45, 51)\n"


@grey
@pytest.mark.parametrize("size, near", [((40, 44), 1e-4), ((24, 28), 1e-4), ((9, 40), 1e-4), ((3, 3), 1e-4),
                                        ((64, 1), 1e-4), ((32, 32), 1e-3)])
def test_one_calibrated_at_a_size_takes_that_size(calibrated, tmp_path, size, near):
    """The coarsest levels of small pictures have a pixel or two, and hold little but rounding."""
    sized = calibrated.at(size, tmp_path)
    expected = sized.score("images")
    assert len(expected) >= 8
    for format in FORMATS:
        exported, said = sized.export(format)
        assert said == f"inspector for images of {sized.size} in {tmp_path}/inspector.{format}\n"
        assert exported.metadata["input"] == exported.metadata["smallest-input"] == sized.size
        for name, score in expected.items():
            other, heat = exported.score(tmp_path / "images" / name)
            assert other == pytest.approx(score, rel=near, abs=near), (format, name)
            sized.assert_is_heat(name, heat)
        with pytest.raises(Exception, match=f"{size[0]}"):
            exported.run(np.zeros((1, 1, size[0] + 1, size[1]), np.float32))


@grey
def test_another_size_than_calibrated_is_refused(calibrated, convae, done, tmp_path):
    args = ("export", "--checkpoint", calibrated.at((40, 44), tmp_path).run, "--part", "inspector", "--format", "onnx",
            "-o", "new.onnx")
    convae(*args, "--input", "48x48").assert_refused(2, "48x48", "40x44")
    convae(*args, "--format", "torchscript", "--input", "40x44").assert_refused(
        2, "every size the inspector does: leave it out")
    assert not (tmp_path / "new.onnx").exists()
    done(*args, "--input", "40x44")


@grey
def test_one_size_of_many(calibrated):
    expected = calibrated.score("images")["45x51.png"]
    exported, said = calibrated.export("onnx", "--input", "45x51")
    assert "for images of 45x51 in" in said
    assert exported.score(calibrated.folder / "images/45x51.png")[0] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    with pytest.raises(Exception, match="Got invalid dimensions"):
        exported.score(calibrated.folder / "images/7x2.png")


@grey
def test_torchscript_takes_one_image_of_its_channels(calibrated):
    exported, _ = calibrated.export("torchscript")
    for shape in ((2, 1, 40, 40), (1, 2, 40, 40), (1, 40, 40)):
        with pytest.raises(Exception, match="the image's shape must be"):
            exported.run(np.zeros(shape, np.float32))


@grey
def test_what_cannot_be_is_refused(calibrated, program, tmp_path):
    run = shutil.copytree(calibrated.run, tmp_path / "run")

    def call(*args, run=run, part="inspector", format="onnx"):
        return program.call("export", "--checkpoint", run, "--part", part, "--format", format, "-o", "new.file", *args,
                            cwd=tmp_path)
    call(format="safetensors").assert_refused(2, "inspector", "weights only", "onnx or torchscript")
    call("--fpr", 2).assert_refused(2, "--fpr '2'", "share")
    call("--fpr", 0.1, part="encoder").assert_refused(2, "--fpr", "--part inspector")
    call("--input", "40x40", format="torchscript").assert_refused(2, "40x40", "torchscript")
    call(run=run / "weights/last.safetensors").assert_refused(2, "last.safetensors", "run folder")
    file = run / "inspector.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:100])
    call().assert_refused(1, "inspector.safetensors")
    file.unlink()
    call().assert_refused(1, "inspector.safetensors", "is not there", "convae calibrate --checkpoint")
    file.write_bytes(content)
    program.run("train", "--data", calibrated.parts, "--levels", "8,16", "--max-steps", 1, "--name", "other",
                "--val-split", 0, "--quiet", *ONE_CORE, cwd=tmp_path)
    shutil.copytree(tmp_path / "runs/other/weights", run / "weights", dirs_exist_ok=True)
    call().assert_refused(1, "is of other weights", "convae calibrate --checkpoint")
    assert not (tmp_path / "new.file").exists()
