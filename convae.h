/// convae: convolutional autoencoders for folders of images, every image back at exactly its size.
///
///     convae::Model model = convae::load("runs/latest");
///     convae::FolderOptions photos{.data = {.data = "photos"}};
///     convae::reconstruct_folder(model, {.images = photos, .output = "out"});
///
/// Each job takes an options struct and Callbacks, returns a result struct, and neither prints nor
/// exits; docs/library.md has a program for each. Errors are exceptions with a what() of one line;
/// LibTorch's own, first_line() cuts to one.
#pragma once

// What all jobs share: how they report and are stopped, and their errors.
#include "convae/core/callbacks.h"

// Training a run folder: train().
#include "convae/training/train.h"

// A trained network: load(), Model; folders of images through it.
#include "convae/inference/decode.h"
#include "convae/inference/drawing.h"
#include "convae/inference/encode.h"
#include "convae/inference/model.h"
#include "convae/inference/reconstruct.h"

// How good it is: evaluate(), benchmark().
#include "convae/evaluation/evaluate.h"
#include "convae/inference/benchmark.h"

// How anomalous images are: Inspector, score_folder().
#include "convae/inspection/inspector.h"

// The model for other programs: export_model(), export_inspector(), description_json().
#include "convae/exporting/export.h"

// Image files and OpenCV's images as tensors.
#include "convae/core/files.h"
#include "convae/data/image_io.h"
#include "convae/data/mat.h"
#include "convae/data/pack.h"
#include "convae/data/pictures.h"

// Sizes and output_padding, level by level.
#include "convae/models/geometry.h"
