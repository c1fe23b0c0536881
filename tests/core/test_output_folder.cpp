#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace convae::test_output_folder {
namespace {

using test::contains;
using test::message_of;

TEST(OutputFolderTest, WhatAnotherProcessHasWrittenMeanwhileIsNotReplaced) {
  const test::TemporaryFolder folder;
  OutputFolder first(folder / "out", /*overwrite=*/false), second = first;
  OutputFolder overwriting(folder / "out", /*overwrite=*/true);
  for (OutputFolder* output : {&first, &second, &overwriting}) output->reserve_exact("a.csv");
  write_file(first.prepare("a.csv"), "first");
  EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { second.prepare("a.csv"); }),
                       "a.csv' exists; choose another -o"));
  EXPECT_NO_THROW(overwriting.prepare("a.csv"));
}

}  // namespace
}  // namespace convae::test_output_folder
