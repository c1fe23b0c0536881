#include "convae/exporting/onnx_graph.h"

#include "onnx.pb.h"

#include <bit>
#include <limits>
#include <stdexcept>

namespace convae {
namespace {

namespace schema = convae_onnx;

// raw_data is little-endian by definition.
static_assert(std::endian::native == std::endian::little);

int data_type(OnnxGraph::Type type) {
  return type == OnnxGraph::Type::float32 ? schema::TensorProto::FLOAT : schema::TensorProto::INT64;
}

void describe(schema::ValueInfoProto& value, const std::string& name, OnnxGraph::Type type,
              const std::vector<OnnxGraph::Length>& shape, const std::string& meaning) {
  value.set_name(name);
  value.set_doc_string(meaning);
  auto& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(data_type(type));
  for (const OnnxGraph::Length& length : shape) {
    auto& dim = *tensor.mutable_shape()->add_dim();
    if (const auto* number = std::get_if<std::int64_t>(&length)) {
      dim.set_dim_value(*number);
    } else {
      dim.set_dim_param(std::get<std::string>(length));
    }
  }
}

void set(schema::AttributeProto& attribute, std::int64_t value) {
  attribute.set_type(schema::AttributeProto::INT);
  attribute.set_i(value);
}

void set(schema::AttributeProto& attribute, float value) {
  attribute.set_type(schema::AttributeProto::FLOAT);
  attribute.set_f(value);
}

void set(schema::AttributeProto& attribute, const std::string& value) {
  attribute.set_type(schema::AttributeProto::STRING);
  attribute.set_s(value);
}

void set(schema::AttributeProto& attribute, const OnnxGraph::Ints& values) {
  attribute.set_type(schema::AttributeProto::INTS);
  for (const std::int64_t value : values) attribute.add_ints(value);
}

template <typename T>
void add_constant(schema::GraphProto& graph, const std::string& name, OnnxGraph::Type type,
                  const OnnxGraph::Ints& shape, std::span<const T> values) {
  schema::TensorProto& tensor = *graph.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(data_type(type));
  for (const std::int64_t length : shape) tensor.add_dims(length);
  tensor.set_raw_data(values.data(), values.size_bytes());
}

}  // namespace

struct OnnxGraph::Model {
  schema::ModelProto proto;
  schema::GraphProto& graph() { return *proto.mutable_graph(); }
};

OnnxGraph::OnnxGraph(const std::string& name, const std::string& producer_version)
    : model_(std::make_unique<Model>()) {
  // The format's version that goes with the operator set: ONNX 1.12.
  model_->proto.set_ir_version(8);
  model_->proto.add_opset_import()->set_version(kOpset);
  model_->proto.set_producer_name("convae");
  model_->proto.set_producer_version(producer_version);
  model_->graph().set_name(name);
}

OnnxGraph::~OnnxGraph() = default;

std::string OnnxGraph::input(const std::string& name, const std::vector<Length>& shape,
                             const std::string& meaning, Type type) {
  describe(*model_->graph().add_input(), name, type, shape, meaning);
  return name;
}

void OnnxGraph::output(const std::string& value, const std::string& name,
                       const std::vector<Length>& shape, const std::string& meaning) {
  describe(*model_->graph().add_output(), name, Type::float32, shape, meaning);
  for (auto& node : *model_->graph().mutable_node()) {
    for (auto* names : {node.mutable_input(), node.mutable_output()}) {
      for (std::string& used : *names) {
        if (used == value) used = name;
      }
    }
  }
}

std::string OnnxGraph::floats(const std::string& name, const Ints& shape,
                              std::span<const float> values) {
  add_constant(model_->graph(), name, Type::float32, shape, values);
  return name;
}

std::string OnnxGraph::integers(const std::string& name, const Ints& values) {
  add_constant(model_->graph(), name, Type::int64, {std::ssize(values)},
               std::span<const std::int64_t>(values));
  return name;
}

std::string OnnxGraph::node(const std::string& scope, const std::string& op,
                            const std::vector<std::string>& inputs, const Attributes& attributes,
                            int unused) {
  std::string name = scope + "/" + op;
  if (const int times = ++times_used_[name]; times > 1) name += "_" + std::to_string(times);
  schema::NodeProto& node = *model_->graph().add_node();
  node.set_name(name);
  node.set_op_type(op);
  for (const std::string& input : inputs) node.add_input(input);
  node.add_output(name);
  for (int i = 1; i <= unused; ++i) node.add_output(name + "." + std::to_string(i));
  for (const auto& [key, value] : attributes) {
    schema::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(key);
    std::visit([&](const auto& content) { set(attribute, content); }, value);
  }
  return name;
}

std::string OnnxGraph::serialize(const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) {
    auto& entry = *model_->proto.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
  std::string bytes;
  constexpr std::size_t kMost = std::numeric_limits<std::int32_t>::max();
  if (model_->proto.ByteSizeLong() > kMost || !model_->proto.SerializeToString(&bytes)) {
    throw std::runtime_error(
        "an ONNX file holds at most 2 GiB, and this model needs more; export its encoder and "
        "decoder apart, or use torchscript or safetensors");
  }
  return bytes;
}

}  // namespace convae
