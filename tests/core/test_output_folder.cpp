#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace convae::test_output_folder {
namespace {

using test::contains;
using test::message_of;

TEST(OutputFolderTest, WhatAnotherProcessHasWrittenMeanwhileIsNotReplaced) {
  const test::TemporaryFolder folder;
  OutputFolder first(folder / "out", /*overwrite=*/false), second(folder / "out", false);
  OutputFolder overwriting(folder / "out", /*overwrite=*/true);
  for (OutputFolder* output : {&first, &second, &overwriting}) output->reserve_exact("a.csv");
  write_file(first.prepare("a.csv"), "first");
  EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { second.prepare("a.csv"); }),
                       "a.csv' exists; choose another -o"));
  EXPECT_NO_THROW(overwriting.prepare("a.csv"));
}

TEST(OutputFolderTest, FoldersOfFilesThatNeverCameGoAgain) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "own/empty");
  for (const char* root : {"new/out", "own/empty", "own"}) {
    OutputFolder output(folder / root, /*overwrite=*/false);
    output.prepare("a/b/c.png");
    output.prepare("d.png");
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "new"));
  EXPECT_TRUE(std::filesystem::is_empty(folder / "own/empty"));
  write_file(OutputFolder(folder / "new", /*overwrite=*/false).prepare("a/b.png"), "here");
  EXPECT_TRUE(std::filesystem::exists(folder / "new/a/b.png"));
}

TEST(OutputFolderTest, AFolderIsNeverTakenForAFileToReplace) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "out/a.png");
  for (const bool overwrite : {false, true}) {
    OutputFolder output(folder / "out", overwrite);
    EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { output.reserve_exact("a.png"); }),
                         "out/a.png' is a folder"));
  }
}

TEST(OutputFolderTest, WhatALinkedInputLeadsToIsSpared) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "links");
  std::filesystem::create_directories(folder / "store");
  write_file(folder / "store/a.png", "image");
  std::filesystem::create_symlink("../store/a.png", folder / "links/a.png");
  const auto spare = [&](const char* output_folder, const char* input) {
    OutputFolder output(folder / output_folder, /*overwrite=*/true);
    output.reserve_exact("a.png");
    output.spare({folder / input});
  };
  for (const char* output_folder : {"store", "links"}) {
    EXPECT_TRUE(
        contains(message_of<std::runtime_error>([&] { spare(output_folder, "links/a.png"); }),
                 "would replace"))
        << output_folder;
  }
  EXPECT_NO_THROW(spare("links", "store/a.png")) << "the link alone is replaced";
}

TEST(OutputFolderTest, WhatKilledProcessesLeftLongAgoIsRemoved) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory(folder / "out");
  const auto now = std::filesystem::file_time_type::clock::now();
  for (const auto& [name, age] : {std::pair(".a.png.tmp-12-0", 2), std::pair(".b.png.tmp-12-1", 0),
                                  std::pair("c.png", 2), std::pair(".notes.tmp-old.txt", 2),
                                  std::pair(".d.tmp-1-x", 2), std::pair(".e.tmp-12", 2)}) {
    write_file(folder / "out" / name, "");
    std::filesystem::last_write_time(folder / "out" / name, now - std::chrono::hours(age));
  }
  OutputFolder output(folder / "out", /*overwrite=*/false);
  output.reserve_exact("new.png");
  output.prepare("new.png");
  EXPECT_FALSE(std::filesystem::exists(folder / "out/.a.png.tmp-12-0"));
  EXPECT_TRUE(std::filesystem::exists(folder / "out/.b.png.tmp-12-1")) << "it may be in use";
  for (const char* of_others : {"c.png", ".notes.tmp-old.txt", ".d.tmp-1-x", ".e.tmp-12"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / "out" / of_others)) << of_others;
  }
}

TEST(OutputFolderTest, ANumberIsNoEnding) {
  const test::TemporaryFolder folder;
  OutputFolder output(folder / "out", /*overwrite=*/false);
  EXPECT_EQ(output.reserve("shot.0002", ".png"), "shot.0002.png");
  EXPECT_EQ(output.reserve("in/scan 1.5", ".npy"), "in/scan 1.5.npy");
  EXPECT_EQ(output.reserve("a.jp2", ".png"), "a.png");
  EXPECT_EQ(output.reserve("b.", ".png"), "b.png");
}

}  // namespace
}  // namespace convae::test_output_folder
