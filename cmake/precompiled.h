// What most files need and what takes the longest to read: a file that includes torch compiles in
// 20 seconds without this and in a few with it.
#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>
