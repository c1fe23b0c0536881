#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace convae {

/// Builds an ONNX model (https://onnx.ai/onnx/repo-docs/IR.html), whose values have names.
/// Internal.
///
/// Uses protobuf without LibTorch, which comes with headers of another protobuf version.
class OnnxGraph {
public:
  /// Version of the default operator set, the first with all that is needed; runtimes since 2022
  /// read it.
  static constexpr int kOpset = 17;

  using Ints = std::vector<std::int64_t>;
  /// A length, or the name of one that is known only when the model runs.
  using Length = std::variant<std::int64_t, std::string>;
  using Attributes = std::map<std::string, std::variant<std::int64_t, float, std::string, Ints>>;
  enum class Type { float32, int64 };

  OnnxGraph(const std::string& name, const std::string& producer_version);
  ~OnnxGraph();
  OnnxGraph(const OnnxGraph&) = delete;
  OnnxGraph& operator=(const OnnxGraph&) = delete;

  std::string input(const std::string& name, const std::vector<Length>& shape,
                    const std::string& meaning, Type type = Type::float32);

  /// Makes a value one of the results, under that name.
  void output(const std::string& value, const std::string& name, const std::vector<Length>& shape,
              const std::string& meaning);

  /// Numbers that are part of the model.
  std::string floats(const std::string& name, const Ints& shape, std::span<const float> values);
  std::string integers(const std::string& name, const Ints& values);

  /// Applies an operator; returns the result's name, `scope`/`op`, with a number if that is taken.
  /// An input "" is left out. `unused`: further results that the operator has to have.
  std::string node(const std::string& scope, const std::string& op,
                   const std::vector<std::string>& inputs, const Attributes& attributes = {},
                   int unused = 0);

  /// The bytes of the file. Throws std::runtime_error for more than protobuf's 2 GiB.
  std::string serialize(const std::map<std::string, std::string>& metadata);

private:
  struct Model;
  std::unique_ptr<Model> model_;
  std::map<std::string, int> times_used_;
};

}  // namespace convae
