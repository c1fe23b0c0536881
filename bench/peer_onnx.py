#!/usr/bin/env python3
"""Inference of what export_onnx.py wrote: prints {"ms": median, "difference": …}, the latter the
largest distance from PyTorch's own reconstructions. ONNX Runtime computes in float32."""

import argparse
import json
import pathlib

import numpy as np

import timing


def onnxruntime_forward(file, threads, precision):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def openvino_forward(file, threads, precision):
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
                # Left to itself it takes bfloat16 on processors that have it.
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]}
    request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
    return lambda images: request.infer([images], share_inputs=True, share_outputs=True)[0]


ENGINES = {"onnxruntime": onnxruntime_forward, "openvino": openvino_forward}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    expected = np.load(arguments.file.with_suffix(".npz"))
    images = expected["images"]
    forward = ENGINES[arguments.engine](arguments.file, arguments.threads, arguments.precision)
    difference = float(np.abs(forward(images) - expected["reconstructions"]).max())
    ms = timing.median_ms(lambda: forward(images), arguments.rounds)
    print(json.dumps({"ms": ms, "difference": difference}))


if __name__ == "__main__":
    main()
