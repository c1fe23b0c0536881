// Reconstructs an image of an odd size with a model of its own, and says its size.
#include <convae/convae.h>

#include <cstdio>

int main() {
  convae::ModelOptions options;
  options.channels = 3;
  options.levels = "4,8";
  convae::Autoencoder net(options);
  net->eval();
  const torch::Tensor y = net->forward(torch::rand({1, 3, 33, 57}));
  std::printf("%dx%d\n", static_cast<int>(y.size(2)), static_cast<int>(y.size(3)));
  return y.sizes() == torch::IntArrayRef({1, 3, 33, 57}) ? 0 : 1;
}
