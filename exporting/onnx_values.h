#pragma once

#include "convae/exporting/onnx_graph.h"
#include "convae/inference/model.h"

#include <string>

/// What networks and tensors add to a graph of ONNX.
namespace convae {

/// `images` (N, C, H, W) → their reconstructions, both in the model's range; the name of the value.
/// `fixed`: the one size of all images; {0, 0}: every size.
std::string add_autoencoder(OnnxGraph& graph, const Model& model, Size fixed,
                            const std::string& images);

/// What the model's detector sees, (N, 16·C, h, w) → logits (N, 4, h, w), four pixels each.
std::string add_detector(OnnxGraph& graph, const Model& model, const std::string& seen);

/// A tensor as float.
std::string add_constant(OnnxGraph& graph, const std::string& name, const torch::Tensor& tensor);

}  // namespace convae
