#!/usr/bin/env python3
"""Inference of what export_onnx.py wrote: prints {"ms": median, "difference": …}, the latter the
largest distance from PyTorch's own reconstructions. All in float32, as convae computes."""

import argparse
import json
import pathlib

import numpy as np

import timing


def onnxruntime_forward(file, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def openvino_forward(file, threads):
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
                # Left to itself it takes bfloat16 on processors that have it.
                "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
    return lambda images: request.infer([images], share_inputs=True, share_outputs=True)[0]


ENGINES = {"onnxruntime": onnxruntime_forward, "openvino": openvino_forward}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    expected = np.load(arguments.file.with_suffix(".npz"))
    images = expected["images"]
    forward = ENGINES[arguments.engine](arguments.file, arguments.threads)
    difference = float(np.abs(forward(images) - expected["reconstructions"]).max())
    ms = timing.median_ms(lambda: forward(images), arguments.rounds)
    print(json.dumps({"ms": ms, "difference": difference}))


if __name__ == "__main__":
    main()
