"""What a device must do, with the real program: CONVAE names it, CONVAE_DEVICE the device (default:
cuda where it is usable, else cpu). Needs numpy, Pillow and safetensors, and no pytest, so that it runs
on a bare machine:

    CONVAE=convae python3 -m unittest -v tests/gpu/test_device.py

Without a GPU, the tests that compare one with the processor are skipped and say so."""

import csv
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

CONVAE = os.environ.get("CONVAE", "convae")
NETWORK = ("--levels", "16,32,48", "--batch-size", "8")


def call(*words, device=None):
    device_words = [] if words[0] == "export" else ["--device", device or DEVICE]
    command = [CONVAE, *map(str, words), *device_words]
    return subprocess.run(command, capture_output=True, text=True)


def run(*words, device=None):
    done = call(*words, "--quiet", device=device)
    if done.returncode:
        raise AssertionError(f"{words} on {device or DEVICE}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def bench(size, *words, device=None):
    return call("bench", "--input", size, *words, device=device)


def usable(device):
    return bench("1x16x16", "--levels", "4", "--rounds", 1, device=device).returncode == 0


DEVICE = os.environ.get("CONVAE_DEVICE") or ("cuda" if usable("cuda") else "cpu")
needs_gpu = unittest.skipIf(DEVICE == "cpu", "no GPU: it compares one with the processor")


def draw(folder, sizes, channels=3):
    """Smooth pictures, so that a network has something to learn."""
    random = np.random.default_rng(0)
    for i, (h, w) in enumerate(sizes):
        y, x = np.mgrid[:h, :w].astype(float)
        waves = [np.sin(random.uniform(0.02, 0.2) * x + random.uniform(0.02, 0.2) * y + random.uniform(0, 6))
                 for _ in range(channels)]
        pixels = (127 + 100 * np.stack(waves, -1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")


def losses(run_folder):
    with open(run_folder / "metrics.csv") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def numbers(value):
    """All floats of a JSON value, in order, but for measured times."""
    if isinstance(value, dict):
        value = [item for name, item in value.items() if "second" not in name]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []


class Device(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(place.cleanup)
        cls.place = pathlib.Path(place.name)
        cls.images = cls.place / "images"
        cls.images.mkdir()
        draw(cls.images, [(64, 64)] * 24 + [(61, 47)] * 8 + [(33, 90)] * 4)
        cls.count = 0
        cls.checkpoint = cls.train(*NETWORK, "--epochs", 6, "--lr", "3e-3", "--val-split", "0.3")

    @classmethod
    def train(cls, *words, device=None):
        cls.count += 1
        name = f"run{cls.count}"
        run("train", "--data", cls.images, "--output", cls.place / "runs", "--name", name, *words,
            device=device)
        return cls.place / "runs" / name

    def folder(self):
        return pathlib.Path(tempfile.mkdtemp(dir=self.place))

    def weights(self, run_folder):
        file = self.folder() / "weights.safetensors"
        run("export", "--checkpoint", run_folder, "--format", "safetensors", "-o", file)
        return load_file(file)

    def assert_close(self, ours, theirs, tolerance):
        self.assertEqual(ours.keys(), theirs.keys())
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance,
                                       err_msg=name)

    def test_training_learns_and_leaves_finite_weights(self):
        history = losses(self.checkpoint)
        self.assertLess(history[-1], 0.7 * history[0])
        self.assertTrue(all(np.isfinite(x).all() for x in self.weights(self.checkpoint).values()))

    def test_every_way_to_train(self):
        for words in (("--precision", "bf16"), ("--order", "conv-act-bn"), ("--norm", "group"),
                      ("--norm", "none", "--activation", "gelu"), ("--loss", "ssim"),
                      ("--loss", "l1+0.5*ms-ssim", "--crop", "48"), ("--optimizer", "sgd", "--lr", "0.01"),
                      ("--optimizer", "adamw", "--ema", "0.9", "--clip-grad", "1"),
                      ("--corrupt", "noise:0.1,blemish:0.5"), ("--corrupt", "defects", "--detector", "4,8"),
                      ("--latent-channels", "4", "--variational"),
                      ("--latent", "16", "--size", "32"), ("--augment", "flip", "--size", "40"),
                      ("--precision", "bf16", "--loss", "ssim", "--norm", "group")):
            with self.subTest(words):
                history = losses(self.train(*NETWORK, "--epochs", 2, *words))
                self.assertTrue(np.isfinite(history).all(), history)
                self.assertLess(history[-1], history[0] * 1.05)

    def test_training_repeats_itself_where_it_is_asked_to(self):
        words = (*NETWORK, "--latent", "16", "--size", "32", "--epochs", 2, "--deterministic")
        first, second = (self.weights(self.train(*words)) for _ in range(2))
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)

    def test_a_run_goes_on_where_it_stopped(self):
        words = (*NETWORK, "--epochs", 4, "--schedule", "constant", "--deterministic")
        whole = self.train(*words)
        halves = self.train(*words, "--max-steps", 7)
        run("train", "--resume", halves, "--max-steps", 0)
        self.assert_close(self.weights(whole), self.weights(halves), 1e-6)

    @needs_gpu
    def test_a_run_changes_device(self):
        for first, second in ((DEVICE, "cpu"), ("cpu", DEVICE)):
            with self.subTest(first):
                folder = self.train(*NETWORK, "--epochs", 2, device=first)
                before = losses(folder)
                run("train", "--resume", folder, "--epochs", 4, device=second)
                self.assertEqual(losses(folder)[:2], before)
                self.assertLess(losses(folder)[-1], before[-1] * 1.02)

    @needs_gpu
    def test_a_step_is_the_processors(self):
        for words in (("--order", "conv-bn-act", "--activation", "silu"),
                      ("--order", "conv-act-bn", "--activation", "gelu", "--levels", "6,20"),
                      ("--order", "conv-act-bn", "--activation", "leaky-relu", "--levels", "7,640:s1"),
                      ("--norm", "none", "--activation", "relu"), ("--norm", "group")):
            with self.subTest(words):
                words = (*NETWORK, "--max-steps", 3, "--optimizer", "sgd", "--lr", "0.01", *words)
                gpu, processor = (self.weights(self.train(*words, device=d)) for d in (DEVICE, "cpu"))
                self.assert_close(gpu, processor, 2e-3)

    @needs_gpu
    def test_inference_is_the_processors(self):
        pixels, tables, latents = {}, {}, {}
        for device in (DEVICE, "cpu"):
            out = self.folder()
            run("reconstruct", "--checkpoint", self.checkpoint, "--data", self.images, "-o", out / "r",
                device=device)
            pixels[device] = [np.asarray(Image.open(p)).astype(int) for p in sorted((out / "r").glob("*.png"))]
            tables[device] = numbers(json.loads(run("evaluate", "--checkpoint", self.checkpoint, "--data",
                                                    self.images, "--json", device=device)))
            run("encode", "--checkpoint", self.checkpoint, "--data", self.images, "-o", out / "l.npy",
                "--size", "64", device=device)
            latents[device] = np.load(out / "l.npy")
        self.assertEqual(len(pixels["cpu"]), 36)
        for ours, theirs in zip(pixels[DEVICE], pixels["cpu"]):
            self.assertLessEqual(abs(ours - theirs).max(), 1)
        np.testing.assert_allclose(latents[DEVICE], latents["cpu"], rtol=1e-3, atol=1e-4)
        self.assertGreater(len(tables["cpu"]), 3)
        np.testing.assert_allclose(tables[DEVICE], tables["cpu"], rtol=1e-3, atol=1e-4)

    def test_scoring(self):
        out = self.folder() / "scores"
        run("score", "--checkpoint", self.checkpoint, "--data", self.images, "-o", out)
        with open(out / "scores.csv") as file:
            scores = [float(row["score"]) for row in csv.DictReader(file)]
        self.assertGreater(len(scores), 8)
        self.assertTrue(np.isfinite(scores).all())

    @needs_gpu
    def test_too_little_memory_is_said_in_one_line(self):
        done = bench("3x4096x4096", "--batch-size", 64)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn("--batch-size", done.stderr)

    @needs_gpu
    def test_a_gpu_that_is_not_there_is_said(self):
        done = call("train", "--data", self.images, device="cuda:77")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cuda:77", done.stderr)


if __name__ == "__main__":
    unittest.main()
