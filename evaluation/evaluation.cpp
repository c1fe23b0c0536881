#include "convae/evaluation/evaluation.h"

#include "convae/core/csv.h"
#include "convae/core/text.h"
#include "convae/training/run_folder.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace convae {
namespace {

using nlohmann::ordered_json;

/// Written as null where they are NaN, as all numbers.
ordered_json interval_json(const MeanInterval& value) {
  return {{"mean", value.mean}, {"low", value.interval.low}, {"high", value.interval.high}};
}

ordered_json contender_json(const Contender& contender) {
  ordered_json result;
  if (contender.bytes) result["bytes"] = *contender.bytes;
  if (contender.strength) result["strength"] = *contender.strength;
  for (const Measure measure : kMeasures) {
    result[to_string(measure)] = interval_json(contender.measures.mean(measure));
  }
  return result;
}

ordered_json duel_json(const Duel& duel) {
  return {{"contender", to_string(duel.network)},
          {"mse_difference", interval_json(duel.difference)},
          {"wins", duel.wins()},
          {"settled", duel.is_settled()}};
}

}  // namespace

const Contender* Evaluation::find(Coder coder) const {
  const auto found = std::ranges::find(contenders, coder, &Contender::coder);
  return found == contenders.end() ? nullptr : &*found;
}

std::vector<Duel> Evaluation::duels() const {
  std::vector<Duel> all;
  for (Duel duel :
       {Duel{Coder::network, Coder::pca, {}}, Duel{Coder::network, Coder::mean_image, {}},
        Duel{Coder::network_8_bit, Coder::jpeg, {}}, Duel{Coder::network, Coder::corrupted, {}},
        Duel{Coder::network, Coder::gaussian_blur, {}},
        Duel{Coder::network, Coder::non_local_means, {}}}) {
    const Contender* network = find(duel.network);
    const Contender* rival = find(duel.rival);
    if (network == nullptr || rival == nullptr) continue;
    duel.difference = mean_difference(network->measures.values(Measure::mse),
                                      rival->measures.values(Measure::mse));
    all.push_back(duel);
  }
  return all;
}

std::string to_json(const Evaluation& e) {
  ordered_json json;
  json["checkpoint"] = json_text(e.checkpoint);
  json["data"] = json_text(e.data);
  json["precision"] = to_string(e.precision);
  json["images"] = e.images.size();
  ordered_json& skipped = json["skipped"] = ordered_json::array();
  for (const SkippedFile& file : e.skipped) {
    skipped.push_back({{"path", json_text(file.name)}, {"reason", json_text(file.reason)}});
  }
  json["size"] = e.size ? ordered_json(to_string(e.size)) : ordered_json(nullptr);
  json["channels"] = e.channels;
  if (!e.corruptions.empty()) json["corrupted_by"] = e.corruptions;
  const auto count = static_cast<double>(e.images.size());
  json["numbers_in"] = static_cast<double>(e.numbers_in) / count;
  if (e.numbers_latent > 0) {
    json["numbers_latent"] = static_cast<double>(e.numbers_latent) / count;
    json["compression"] = static_cast<double>(e.numbers_in) / static_cast<double>(e.numbers_latent);
  }
  json["train_data"] =
      e.training_images > 0 ? ordered_json(json_text(e.train_data)) : ordered_json(nullptr);
  json["training_images"] = e.training_images;
  json["also_training_images"] = e.trained_on;
  if (!e.pca_method.empty()) json["pca_method"] = e.pca_method;
  if (!e.ranges_from.empty()) json["ranges_from"] = e.ranges_from;
  if (!e.jpeg_bytes.empty()) json["jpeg_header_bytes"] = e.jpeg_header_bytes;
  const BootstrapOptions bootstrap;
  json["interval"] = {
      {"confidence", bootstrap.confidence}, {"draws", bootstrap.draws}, {"seed", bootstrap.seed}};
  for (const char* key : {"results", "left_out", "against"}) json[key] = ordered_json::object();
  for (const Contender& contender : e.contenders) {
    json["results"][to_string(contender.coder)] = contender_json(contender);
  }
  for (const LeftOut& other : e.left_out) json["left_out"][to_string(other.coder)] = other.reason;
  for (const Duel& duel : e.duels()) json["against"][to_string(duel.rival)] = duel_json(duel);
  return json.dump();
}

std::string to_csv(const Evaluation& e) {
  std::string text = "path,width,height";
  for (const Contender& contender : e.contenders) {
    const std::string prefix =
        contender.coder == Coder::network ? "" : std::string(to_string(contender.coder)) + "_";
    for (const Measure measure : kMeasures) text += "," + prefix + to_string(measure);
  }
  if (!e.jpeg_bytes.empty()) text += ",jpeg_bytes";
  text += "\n";
  for (std::size_t i = 0; i < e.images.size(); ++i) {
    const auto& [name, size] = e.images[i];
    text += csv_field(name) + "," + std::to_string(size.w) + "," + std::to_string(size.h);
    for (const Contender& contender : e.contenders) {
      for (const Measure measure : kMeasures) {
        text += "," + csv_number(contender.measures.values(measure)[i]);
      }
    }
    if (!e.jpeg_bytes.empty()) text += "," + csv_number(e.jpeg_bytes[i]);
    text += "\n";
  }
  return text;
}

}  // namespace convae
