"""Exported models give the program's reconstructions and latents in other programs."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import tifffile
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import convae
from convae_program import ONE_CORE, picture, read_csv, read_metadata, save_pictures, source_dir

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")

# Three of one size for a batch; odd, even, mixed, a single pixel, and one as large as photographs.
SIZES = [(33, 57)] * 3 + [(64, 64), (1, 1), (24, 25), (481, 321)]
DENSE = ["--size", "33x57"]
TOLERANCE = 1e-5

MODELS = {
    "defaults": [],
    "conv-act-bn, relu": ["--order", "conv-act-bn", "--activation", "relu"],
    "group norm, gelu": ["--norm", "group", "--activation", "gelu", "--levels", "6,12,9"],
    "group norm after leaky-relu": ["--norm", "group", "--activation", "leaky-relu",
                                    "--order", "conv-act-bn"],
    "no norm, tanh": ["--norm", "none", "--output-activation", "tanh"],
    "linear output, gelu": ["--output-activation", "linear", "--activation", "gelu"],
    "grey": ["--channels", "1"],
    "k4": ["--levels", "4:k4,6:k4,8:k4"],
    "k4 without padding": ["--levels", "4,8", "--kernel", "4", "--padding", "0"],
    "k5": ["--levels", "4:k5p2,6:k5p2,8:k5p1"],
    "s3": ["--levels", "4:s3,6:k5s3p2"],
    "stride above the kernel": ["--levels", "4:k2s3p1,8:k1s2p0"],
    "stride 1": ["--levels", "4:s1,8:s1,6"],
    "dilation 2": ["--levels", "4:k3s2p2d2,8:k3s3p3d2"],
    "padding above the kernel": ["--levels", "4:k2s2p3,8:k3s3p4"],
    "axes apart": ["--levels", "4:k3x5s2x1p1x2d1x1,6:k4x2s3x2p2x0d1x2,8:k2x3s1x2p0x1d2x1"],
    "latent channels": ["--latent-channels", "3"],
    "latent channels, conv-act-bn": ["--latent-channels", "2", "--order", "conv-act-bn"],
    "variational": ["--latent-channels", "3", "--variational", "--norm", "group"],
    "shortcuts": ["--shortcut", "shuffle", "--levels", "4,6,9"],
    "shortcuts of every kind": ["--shortcut", "shuffle", "--levels", "4:k4,6:s3,5:k3x5s1x2p1x2",
                                "--latent-channels", "2"],
    "shortcuts with dense": ["--shortcut", "shuffle", "--latent", "7", *DENSE],
    "shortcuts, residual blocks": ["--shortcut", "shuffle", "--levels", "4:r1,6,8:r2", "--order",
                                   "conv-act-bn"],
    "residual blocks, group norm": ["--norm", "group", "--residual-blocks", "1"],
    "dense": ["--latent", "7", *DENSE],
    "dense with a linear path": ["--latent", "7", *DENSE, "--linear", "pca", "--levels", "4:r1,6"],
    "map with a linear path": ["--latent-channels", "3", "--linear", "pca", "--levels",
                               "4:s3x2,6:k5p2r1", "--shortcut", "shuffle"],
    "dense, variational, conv-act-bn, tanh": ["--latent", "5", *DENSE, "--variational", "--order",
                                              "conv-act-bn", "--output-activation", "tanh"],
}

# Their decoders need the images, so there are no latents and no parts.
RESTORING = {
    "skip": ["--skip", "add"],
    "residual": ["--residual", "--norm", "group"],
    "all": ["--skip", "add", "--residual", "--shortcut", "shuffle", "--residual-blocks", "1"],
    "all of every kind": ["--skip", "add", "--residual", "--shortcut", "shuffle", "--levels",
                          "4:k4,6:s3r1,5:k3x5s1x2p1x2", "--channels", "1"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """16-bit TIFFs: the program writes their reconstructions with 16 bits too."""
    folder = tmp_path_factory.mktemp("pictures")
    for channels, photometric in (("1", "minisblack"), ("3", "rgb")):
        (folder / channels).mkdir()
        for index, size in enumerate(SIZES):
            tifffile.imwrite(folder / channels / f"{index}.tif", photometric=photometric,
                             data=picture(*size, int(channels), seed=index, dtype=np.uint16))
    return folder


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return save_pictures(tmp_path_factory.mktemp("data") / "squares", [(64, 64)] * 6)


class Model:
    """A short run at 64x64, what the program makes of the pictures, and exports on demand."""

    def __init__(self, program, options, squares, pictures, folder):
        self.program, self.folder = program, folder
        levels = [] if "--levels" in options else ["--levels", "4,6,8"]
        # Enough steps at a high rate that norms and biases are not what they started as.
        program.run("train", "--data", squares, "--epochs", 5, "--batch-size", 2, "--lr", 0.01,
                    "--val-split", 0, "--name", "run", "--quiet", *levels, *options, *ONE_CORE,
                    cwd=folder)
        self.checkpoint = folder / "runs" / "run" / "weights" / "last.safetensors"
        self.spec = read_metadata(self.checkpoint)["model"]
        pictures = pictures / str(self.spec["channels"])
        common = ("--checkpoint", self.checkpoint, "--data", pictures, "--quiet", *ONE_CORE)
        program.run("reconstruct", *common, "--format", "keep", "-o", "out", cwd=folder)
        if options not in RESTORING.values():
            program.run("encode", *common, "-o", "latents/", cwd=folder)
        self.dense = self.spec["latent"] > 0
        self.images = {}
        for row in read_csv(folder / "out" / "reconstruct.csv"):
            size = int(row["height"]), int(row["width"])
            if not self.dense or self.spec["size"] == "%dx%d" % size:
                self.images[row["path"]] = tifffile.imread(pictures / row["path"])
        assert self.images

    def export(self, format, *options):
        name = "-".join([format, *options]).replace("--", "") + ".file"
        if not (self.folder / name).exists():
            self.program.run("export", "--checkpoint", self.checkpoint, "--format", format,
                             "-o", name, "--quiet", *options, cwd=self.folder)
        return self.folder / name

    def session(self, *options):
        return onnxruntime.InferenceSession(str(self.export("onnx", *options)),
                                            one_thread(), providers=["CPUExecutionProvider"])

    def input(self, name):
        """(1, C, H, W) float32 in the model's range."""
        pixels = self.images[name].astype(np.float32) / 65535
        height, width = pixels.shape[:2]
        images = pixels.reshape(height, width, -1).transpose(2, 0, 1)[None]
        return images * 2 - 1 if self.spec["output"] == "tanh" else images

    def latent(self, name):
        return np.load(self.folder / "latents" / name.replace(".tif", ".npy"), allow_pickle=False)

    def assert_reconstructs(self, name, output):
        """`output` is the program's reconstruction to 1e-5, as far as 16 bits show it."""
        assert output.dtype == np.float32
        unit = (output.astype(np.float64) + 1) / 2 if self.spec["output"] == "tanh" else output
        expected = tifffile.imread(self.folder / "out" / name)
        pixels = np.clip(unit[0].transpose(1, 2, 0), 0, 1).reshape(expected.shape) * 65535.0
        assert np.abs(pixels - expected).max() <= 0.5 + TOLERANCE * 65535, name

    def assert_is_latent(self, name, output):
        expected = self.latent(name)
        assert output.shape == expected.shape
        assert np.abs(output - expected).max() <= TOLERANCE * max(1, np.abs(expected).max()), name

    @property
    def smallest(self):
        size = self.session().get_modelmeta().custom_metadata_map["smallest-input"]
        return tuple(map(int, size.split("x")))


def one_thread():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 2  # warnings would say that shapes are not what they are said to be
    return options


@pytest.fixture(scope="module", params=MODELS)
def model(request, program, squares, pictures, tmp_path_factory):
    return Model(program, MODELS[request.param], squares, pictures,
                 tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=RESTORING)
def restoring(request, program, squares, pictures, tmp_path_factory):
    return Model(program, RESTORING[request.param], squares, pictures,
                 tmp_path_factory.mktemp("restoring"))


def shape_of(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_onnx_files_are_valid_and_say_what_they_are(model):
    channels = model.spec["channels"]
    size = list(map(int, model.spec["size"].split("x"))) if model.dense else ["height", "width"]
    images = ["batch", channels, *size]
    latent = ["batch", *model.latent(next(iter(model.images))).shape[1:2],
              *([] if model.dense else ["latent_height", "latent_width"])]
    sized = {} if model.dense else {"size": [2]}
    for part, inputs, outputs in (
            ("autoencoder", {"images": images}, {"reconstruction": images}),
            ("encoder", {"images": images}, {"latent": latent}),
            ("decoder", {"latent": latent} | sized, {"reconstruction": images})):
        file = onnx.load(model.export("onnx", "--part", part))
        onnx.checker.check_model(file, full_check=True)
        assert {value.name: shape_of(value) for value in file.graph.input} == inputs
        assert {value.name: shape_of(value) for value in file.graph.output} == outputs
        metadata = {entry.key: entry.value for entry in file.metadata_props}
        assert metadata["channels"] == str(channels)
        assert json.loads(metadata["range"]) == ([-1, 1] if model.spec["output"] == "tanh" else [0, 1])
        assert json.loads(metadata["model"]) == model.spec
        assert metadata["part"] == part
        assert metadata["version"] == file.producer_version == read_metadata(model.checkpoint)["convae"]
        assert file.producer_name == "convae"


def test_onnx_runtime_gives_the_reconstruction_at_every_size(model):
    session = model.session()
    for name in model.images:
        model.assert_reconstructs(name, session.run(None, {"images": model.input(name)})[0])


def test_onnx_runtime_refuses_what_the_program_skips(model, pictures):
    if model.dense:
        pytest.skip("a dense latent has one size, and the program resizes")
    session = model.session()
    folder = pictures / str(model.spec["channels"])
    skipped = {path.name for path in folder.iterdir()} - model.images.keys()
    assert skipped == ({"4.tif"} if model.smallest > (1, 1) else set())
    for name in skipped:
        height, width = tifffile.imread(folder / name).shape[:2]
        images = np.zeros((1, model.spec["channels"], height, width), np.float32)
        with pytest.raises(Exception, match="Invalid input shape"):
            session.run(None, {"images": images})


def test_onnx_runtime_takes_batches(model):
    names = [name for name in model.images if model.images[name].shape[:2] == SIZES[0]]
    assert len(names) == 3
    outputs = model.session().run(None, {"images": np.concatenate(list(map(model.input, names)))})[0]
    assert outputs.shape == (3, model.spec["channels"], *SIZES[0])
    for name, output in zip(names, outputs):
        model.assert_reconstructs(name, output[None])


def test_onnx_parts_give_latents_and_take_them(model):
    encoder, decoder = model.session("--part", "encoder"), model.session("--part", "decoder")
    for name, pixels in model.images.items():
        latent = encoder.run(None, {"images": model.input(name)})[0]
        model.assert_is_latent(name, latent)
        inputs = {"latent": model.latent(name)}
        if not model.dense:
            inputs["size"] = np.array(pixels.shape[:2], np.int64)
        model.assert_reconstructs(name, decoder.run(None, inputs)[0])


@pytest.mark.parametrize("size", [SIZES[0], SIZES[-1]])
def test_onnx_for_one_size_pads_instead_of_cutting(model, size):
    names = [name for name in model.images if model.images[name].shape[:2] == size]
    if not names:
        pytest.skip("not a size of this model")
    words = "--input", "%dx%d" % size
    file = onnx.load(model.export("onnx", *words))
    onnx.checker.check_model(file, full_check=True)
    assert shape_of(file.graph.input[0]) == ["batch", model.spec["channels"], *size]
    assert "Slice" not in {node.op_type for node in file.graph.node}
    session = model.session(*words)
    for name in names:
        model.assert_reconstructs(name, session.run(None, {"images": model.input(name)})[0])
    decoder = model.session("--part", "decoder", *words)
    assert [value.name for value in decoder.get_inputs()] == ["latent"]
    model.assert_reconstructs(names[0], decoder.run(None, {"latent": model.latent(names[0])})[0])


@pytest.mark.parametrize("words", [[], ["--norm", "group", "--activation", "gelu"],
                                   ["--order", "conv-act-bn", "--latent-channels", "3"],
                                   ["--latent", "5", "--size", "33x57"],
                                   ["--skip", "add", "--residual", "--residual-blocks", "1"],
                                   ["--shortcut", "shuffle"]])
def test_opencv_opens_a_file_for_one_size(program, tmp_path, words):
    cv2 = pytest.importorskip("cv2", reason="OpenCV's Python module is missing")
    data = save_pictures(tmp_path / "data", [(33, 57)] * 3)
    program.run("train", "--data", data, "--levels", "4,8", *words, "--epochs", 1, "--val-split", 0,
                "--quiet", *ONE_CORE, cwd=tmp_path)
    program.run("export", "--checkpoint", "runs/data", "--format", "onnx", "--input", "33x57",
                "-o", "m.onnx", cwd=tmp_path)
    images = np.stack([picture(33, 57, seed=i) for i in range(2)]).transpose(0, 3, 1, 2) / 255
    images = images.astype(np.float32)
    expected = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"images": images})[0]
    for engine in (cv2.dnn.ENGINE_CLASSIC, cv2.dnn.ENGINE_NEW):  # that of OpenCV 4, and 5's own
        net = cv2.dnn.readNetFromONNX(str(tmp_path / "m.onnx"), engine)
        for image, wanted in zip(images, expected):
            net.setInput(image[np.newaxis])
            assert np.abs(net.forward()[0] - wanted).max() < TOLERANCE
    # The documentation names what cannot read the other file.
    if words == []:
        program.run("export", "--checkpoint", "runs/data", "--format", "onnx", "-o", "any.onnx",
                    cwd=tmp_path)
        with pytest.raises(cv2.error):
            cv2.dnn.readNetFromONNX(str(tmp_path / "any.onnx"), cv2.dnn.ENGINE_CLASSIC)
        net = cv2.dnn.readNetFromONNX(str(tmp_path / "any.onnx"), cv2.dnn.ENGINE_NEW)
        net.setInput(images)
        assert np.abs(net.forward() - expected).max() < TOLERANCE


def test_openvino_gives_the_reconstruction_at_every_size(model):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed (pip install "
                                                      "openvino): nothing is known of it here")
    # Where a CPU has bfloat16, OpenVINO computes in it unless it is told not to.
    compiled = openvino.compile_model(model.export("onnx"), "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    for name in model.images:
        model.assert_reconstructs(name, compiled({"images": model.input(name)})[0])


def test_torchscript_gives_reconstructions_and_latents_at_every_size(model):
    extra = {"convae.json": ""}
    torch.jit.load(model.export("torchscript", "--part", "encoder"), _extra_files=extra)
    assert json.loads(extra["convae.json"])["part"] == "encoder"
    script = torch.jit.load(model.export("torchscript"), _extra_files=extra)
    description = json.loads(extra["convae.json"])
    assert description["model"] == model.spec
    assert description["channels"] == model.spec["channels"]
    assert description["range"] == ([-1, 1] if model.spec["output"] == "tanh" else [0, 1])
    assert description["part"] == "autoencoder"
    with torch.no_grad():
        for name, pixels in model.images.items():
            images = torch.from_numpy(model.input(name))
            model.assert_reconstructs(name, script(images).numpy())
            model.assert_is_latent(name, script.encode(images).numpy())
            size = [] if model.dense else [list(pixels.shape[:2])]
            latent = torch.from_numpy(model.latent(name))
            model.assert_reconstructs(name, script.decode(latent, *size).numpy())


def test_torchscript_and_safetensors_have_the_checkpoints_names(model):
    tensors = {name: tensor for name, tensor in load_file(model.checkpoint).items()
               if not name.startswith("optimizer.")}
    for weights in (torch.jit.load(model.export("torchscript")).state_dict(),
                    load_file(model.export("safetensors"))):
        assert weights.keys() == tensors.keys()
        assert all(torch.equal(weights[name], tensors[name]) for name in tensors)


def test_restoring_models_are_the_same_in_every_format(restoring):
    session = restoring.session()
    onnx.checker.check_model(onnx.load(restoring.export("onnx")), full_check=True)
    script = torch.jit.load(restoring.export("torchscript"))
    module = convae.load(restoring.export("safetensors"))
    for name in restoring.images:
        images = restoring.input(name)
        restoring.assert_reconstructs(name, session.run(None, {"images": images})[0])
        with torch.no_grad():
            restoring.assert_reconstructs(name, script(torch.from_numpy(images)).numpy())
            restoring.assert_reconstructs(name, module(torch.from_numpy(images)).numpy())
    if restoring.spec.get("residual"):  # what the difference leaves is limited to what images have
        extremes = np.random.default_rng(3).integers(0, 2, (1, restoring.spec["channels"], 40, 33))
        output = session.run(None, {"images": extremes.astype(np.float32)})[0]
        assert output.min() == 0 or output.max() == 1
        assert output.min() >= 0 and output.max() <= 1
    assert not hasattr(script, "encode") and not hasattr(script, "decode")
    with pytest.raises(ValueError, match="needs the images"):
        module.encode(torch.zeros(1, restoring.spec["channels"], 64, 64))


@pytest.fixture(scope="module")
def plain(program, squares, pictures, tmp_path_factory):
    return Model(program, MODELS["defaults"], squares, pictures, tmp_path_factory.mktemp("plain")).export("safetensors")


@pytest.mark.parametrize("key, value", [("skip", "concat"), ("shortcut", "resize"), ("order", "bn-conv-act"),
                                        ("output", "relu"), ("activation", "mish"), ("norm", "layer"),
                                        ("linear", "ica"), ("levels", ["4"]), ("attention", 1),
                                        ("residual", "multiply"), ("variational", "quantised")])
def test_the_module_refuses_what_it_does_not_know(plain, tmp_path, key, value):
    with safe_open(plain, "pt") as file:
        spec = json.loads(file.metadata()["model"])
    save_file(load_file(plain), tmp_path / "other", {"model": json.dumps(spec | {key: value})})
    with pytest.raises(ValueError, match="does not know"):
        convae.load(tmp_path / "other")


@pytest.mark.parametrize("options", [("--shortcut", "shuffle"), ("--latent-channels", 2, "--linear", "pca")],
                         ids=["shortcut", "pca"])
def test_torch_export_keeps_sizes_free(program, squares, tmp_path, options):
    program.run("train", "--data", squares, "--levels", "4,6", "--max-steps", 1, "--name", "run", *options, *ONE_CORE,
                cwd=tmp_path)
    program.run("export", "--checkpoint", "runs/run", "--format", "safetensors", "-o", "net", cwd=tmp_path)
    net = convae.load(tmp_path / "net").eval()
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(net, (torch.rand(2, net.spec["channels"], 33, 57),),
                                   dynamic_shapes=({0: auto, 2: auto, 3: auto},)).module()
    for size in (33, 57), (64, 64), (41, 30):
        images = torch.rand(3, net.spec["channels"], *size)
        with torch.no_grad():
            assert torch.allclose(exported(images), net(images), atol=1e-5), size


def test_the_module_refuses_a_file_that_describes_no_model(plain, tmp_path):
    save_file(load_file(plain), tmp_path / "bare")
    with pytest.raises(ValueError, match="convae export"):
        convae.load(tmp_path / "bare")


def test_the_module_refuses_a_part(plain, tmp_path):
    with safe_open(plain, "pt") as file:
        about = file.metadata()
    weights = {name[8:]: tensor for name, tensor in load_file(plain).items() if name.startswith("encoder.")}
    save_file(weights, tmp_path / "part", about | {"part": "encoder"})
    with pytest.raises(ValueError, match="the encoder alone"):
        convae.load(tmp_path / "part")


def small_module(**spec):
    return convae.Autoencoder({"channels": 1, "levels": ["4:k3x3s2x2p1x1d1x1", "6:k3x3s2x2p1x1d1x1"],
                               "order": "conv-bn-act", "activation": "silu", "norm": "batch", "latent": 0,
                               "latent-channels": 0, "size": "0x0", "output": "linear",
                               "variational": False} | spec).eval()


@pytest.mark.parametrize("linear", ["none", "pca"])
def test_the_module_refuses_latents_of_another_size(linear):
    net = small_module(**{"latent-channels": 2, "linear": linear})
    with torch.no_grad():
        latent = net.encode(torch.rand(1, 1, 14, 9))
        assert net.decode(latent, (13, 12)).shape == (1, 1, 13, 12)
        for size in ((12, 9), (17, 9), (40, 40)):
            with pytest.raises(ValueError, match="size"):
                net.decode(latent, size)


def test_the_module_of_a_dense_latent_refuses_other_sizes():
    net = small_module(latent=3, size="14x10")
    with torch.no_grad():
        assert net(torch.rand(2, 1, 14, 10)).shape == net.decode(torch.rand(2, 3), (14, 10)).shape == (2, 1, 14, 10)
        images = torch.rand(2, 1, 13, 9)  # whose maps have the same shapes
        for call in (lambda: net(images), lambda: net.encode(images), lambda: net.decode(torch.rand(2, 3), (13, 9))):
            with pytest.raises(ValueError, match=r"size \(14, 10\) only, but got \(13, 9\)"):
                call()


def test_modules_that_torch_puts_in_place_of_others_are_used():
    levels = ["4:k3x3s2x2p1x1d1x1r1", "6:k3x3s2x2p1x1d1x1"]
    net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(small_module(levels=levels))
    norms = [module for module in net.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    used = []
    for norm in norms:
        norm.register_forward_hook(lambda module, *_: used.append(module))
    with torch.no_grad():
        net(torch.rand(1, 1, 14, 10))
    assert len(norms) == len(used) == 5


@pytest.mark.parametrize("size", [SIZES[0], SIZES[3]])
def test_restoring_models_for_one_size(restoring, size):
    words = "--input", "%dx%d" % size
    file = onnx.load(restoring.export("onnx", *words))
    onnx.checker.check_model(file, full_check=True)
    assert "Slice" not in {node.op_type for node in file.graph.node}
    session = restoring.session(*words)
    for name in restoring.images:
        if restoring.images[name].shape[:2] == size:
            images = restoring.input(name)
            restoring.assert_reconstructs(name, session.run(None, {"images": images})[0])


def test_openvino_restores(restoring):
    test_openvino_gives_the_reconstruction_at_every_size(restoring)


def blocks_of(page):
    """The Python code of a page of the documentation, block by block."""
    text = (source_dir() / "docs" / page).read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_python_module_takes_the_weights(model):
    net = convae.load(model.export("safetensors"))
    for part in ("encoder", "decoder"):
        weights = load_file(model.export("safetensors", "--part", part))
        getattr(net, part).load_state_dict(weights, strict=True)
    with torch.no_grad():
        for name, pixels in model.images.items():
            images = torch.from_numpy(model.input(name))
            model.assert_reconstructs(name, net(images).numpy())
            model.assert_is_latent(name, net.encode(images).numpy())
            latent = torch.from_numpy(model.latent(name))
            model.assert_reconstructs(name, net.decode(latent, pixels.shape[:2]).numpy())


@pytest.mark.parametrize("page", ["export.md", "python.md"])
def test_examples_of_the_documentation_run(program, tmp_path, monkeypatch, capsys, page):
    program.run("train", "--data", source_dir() / "data" / "samples" / "bag", "--levels", "4,8",
                "--max-steps", 1, "--name", "run", "--quiet", *ONE_CORE, cwd=tmp_path)
    for name, format in (("model.onnx", "onnx"), ("model.pt", "torchscript"),
                         ("model.safetensors", "safetensors")):
        program.run("export", "--checkpoint", "runs/run", "--format", format, "-o", name, cwd=tmp_path)
    Image.fromarray(picture(33, 57)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    reconstructions = []
    for block in blocks_of(page):
        if "inspector.onnx" in block:
            continue  # of a run that was calibrated: see tests/cli/test_export_inspector.py
        exec(block, namespace)
        if "images = torch.rand" in block:
            assert namespace["reconstruction"].shape == namespace["images"].shape == (2, 1, 33, 57)
            reconstructions.append(namespace["net"].eval()(torch.full((1, 1, 25, 30), 0.3)))
    if page == "python.md":
        short, complete = reconstructions
        torch.testing.assert_close(short, complete)
    else:
        assert capsys.readouterr().out.splitlines()[:2] == ["[0,1]", "(1, 1, 33, 57) (1, 1, 33, 57)"]
        assert Image.open("reconstruction.png").size == (57, 33)
        assert namespace["extra"]["convae.json"]
