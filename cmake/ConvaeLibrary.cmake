# libconvae: what other C++ programs link. The headers listed here are public, with all they include;
# everything else is hidden.
set(CONVAE_PUBLIC_HEADERS
  convae.h
  core/api.h
  core/callbacks.h
  core/errors.h
  core/descriptor.h
  core/files.h
  core/names.h
  core/size.h
  core/tensor.h
  core/text.h
  core/version.h
  data/effects.h
  data/folder.h
  data/image_files.h
  data/image_io.h
  data/mat.h
  data/options.h
  data/pack.h
  data/pictures.h
  evaluation/evaluate.h
  evaluation/evaluation.h
  exporting/export.h
  exporting/options.h
  inference/benchmark.h
  inference/decode.h
  inference/drawing.h
  inference/encode.h
  inference/latents_file.h
  inference/model.h
  inference/options.h
  inference/reconstruct.h
  inspection/inspector.h
  inspection/results.h
  metrics/bootstrap.h
  metrics/image_quality.h
  metrics/measures.h
  metrics/pixel_metrics.h
  metrics/statistics.h
  models/autoencoder.h
  models/blocks.h
  models/detector.h
  models/geometry.h
  models/kernels/fused.h
  models/level.h
  models/linear_code.h
  models/options.h
  training/checkpoint_info.h
  training/loss_terms.h
  training/options.h
  training/train.h)

add_library(convae SHARED)
add_library(convae::convae ALIAS convae)
list(TRANSFORM CONVAE_PUBLIC_HEADERS PREPEND ${CONVAE_INCLUDE_DIR}/convae/)
target_sources(convae PUBLIC FILE_SET HEADERS BASE_DIRS ${CONVAE_INCLUDE_DIR}
               FILES ${CONVAE_PUBLIC_HEADERS})
target_link_libraries(convae PUBLIC LibTorch::LibTorch PRIVATE convae_everything)
target_compile_features(convae PUBLIC cxx_std_20)
set_target_properties(convae PROPERTIES LINKER_LANGUAGE CXX)
