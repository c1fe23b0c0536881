#include "convae/tests/support.h"
#include "convae/training/run_folder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>

namespace convae::test_run_folder {
namespace {

namespace fs = std::filesystem;
using test::contents;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
const std::string kHeader =
    "epoch,step,lr,train_loss,val_loss,val_mse,val_psnr,val_ssim,images_per_s,seconds\n";

MetricsRow row_of(std::int64_t epoch) {
  MetricsRow row;
  row.epoch = epoch;
  row.step = 10 * epoch;
  row.lr = 0.001;
  row.train_loss = 0.5;
  row.val_loss = 0.25;
  row.val_mse = 0.125;
  row.val_psnr = 30;
  row.val_ssim = 0.75;
  row.images_per_s = 1000;
  row.seconds = 2.5;
  return row;
}

std::string text_of(std::int64_t epoch) {
  return std::to_string(epoch) + "," + std::to_string(10 * epoch) +
         ",0.001,0.5,0.25,0.125,30,0.75,1000,2.5\n";
}

class RunFolderTest : public testing::Test {
protected:
  TemporaryFolder folder_;
};

TEST_F(RunFolderTest, TakesTheNextFreeName) {
  const fs::path output = folder_ / "new/runs";  // made on the way
  EXPECT_EQ(RunFolder::create(output, "night").path(), output / "night");
  EXPECT_EQ(RunFolder::create(output, "night").path(), output / "night-2");
  EXPECT_EQ(RunFolder::create(output, "night").path(), output / "night-3");
  EXPECT_EQ(RunFolder::create(output, "day").path(), output / "day");
  write_text(output / "day-2", "a file in the way");
  EXPECT_EQ(RunFolder::create(output, "day").path(), output / "day-3");
  EXPECT_EQ(contents(output / "day-2"), "a file in the way");
  fs::create_symlink("unmounted/dusk", output / "dusk");
  EXPECT_EQ(RunFolder::create(output, "dusk").path(), output / "dusk-2");
}

TEST_F(RunFolderTest, TakesTheLongestNames) {
  const std::string longest(255, 'n'), second = std::string(253, 'n') + "-2";
  RunFolder::create(folder_.path(), longest).make_latest();
  EXPECT_EQ(fs::read_symlink(folder_ / "latest"), longest);
  RunFolder::create(folder_.path(), longest).make_latest();
  EXPECT_EQ(fs::read_symlink(folder_ / "latest"), second);
  std::string accents;
  for (int i = 0; i < 126; ++i) accents += "é";
  RunFolder::create(folder_.path(), accents + "é");
  EXPECT_EQ(RunFolder::create(folder_.path(), accents + "é").path(), folder_ / (accents + "-2"));
}

TEST_F(RunFolderTest, MakesRoomForWeightsAndSamples) {
  const RunFolder run = RunFolder::create(folder_.path(), "a");
  EXPECT_TRUE(fs::is_directory(folder_ / "a/weights"));
  EXPECT_TRUE(fs::is_directory(folder_ / "a/samples"));
  EXPECT_EQ(run.config(), folder_ / "a/config.toml");
  EXPECT_EQ(run.log(), folder_ / "a/train.log");
  EXPECT_EQ(run.last(), folder_ / "a/weights/last.safetensors");
  EXPECT_EQ(run.best(), folder_ / "a/weights/best.safetensors");
  EXPECT_EQ(run.epoch_weights(20), folder_ / "a/weights/epoch_0020.safetensors");
  EXPECT_EQ(run.epoch_weights(12345), folder_ / "a/weights/epoch_12345.safetensors");
  EXPECT_EQ(run.sample(1), folder_ / "a/samples/epoch_0001.png");
}

TEST_F(RunFolderTest, LatestLeadsToTheNewestRun) {
  RunFolder::create(folder_.path(), "b").make_latest();
  EXPECT_EQ(fs::read_symlink(folder_ / "latest"), "b");  // relative: the folder may be moved
  RunFolder::create(folder_.path(), "a").make_latest();
  EXPECT_EQ(fs::read_symlink(folder_ / "latest"), "a");
  RunFolder::create(folder_.path(), "b").make_latest();
  EXPECT_EQ(fs::read_symlink(folder_ / "latest"), "b-2");
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder_.path())) ++entries;
  EXPECT_EQ(entries, 4);  // three runs and the link, no temporary one
}

TEST_F(RunFolderTest, LatestReplacesADanglingLinkButNothingElse) {
  fs::create_symlink("deleted-run", folder_ / "latest");
  RunFolder::create(folder_.path(), "a").make_latest();
  EXPECT_EQ(fs::read_symlink(folder_ / "latest"), "a");
  fs::remove(folder_ / "latest");
  write_text(folder_ / "latest/precious", "x");
  RunFolder::create(folder_.path(), "b").make_latest();
  EXPECT_EQ(contents(folder_ / "latest/precious"), "x");
}

TEST_F(RunFolderTest, SaysWhichFolderCannotBeMade) {
  write_text(folder_ / "file", "x");
  const std::string in_file =
      message_of<std::runtime_error>([&] { RunFolder::create(folder_ / "file/runs", "a"); });
  EXPECT_EQ(in_file, "cannot create the folder '" + folder_.path().string() +
                         "/file/runs': Not a directory");
  const std::string no_parent =
      message_of<std::runtime_error>([&] { RunFolder::create(folder_.path(), "not/there"); });
  EXPECT_EQ(no_parent, "cannot create the folder '" + folder_.path().string() +
                           "/not/there': No such file or directory");
}

TEST_F(RunFolderTest, OpensThroughLatestButStaysWithTheRun) {
  RunFolder::create(folder_.path(), "a").make_latest();
  const RunFolder run = RunFolder::open(folder_ / "latest");
  EXPECT_EQ(run.path(), folder_ / "a");
  RunFolder::create(folder_.path(), "b").make_latest();
  EXPECT_EQ(run.path(), folder_ / "a");
}

TEST_F(RunFolderTest, MakesSamplesAgainWhenOpened) {
  RunFolder::create(folder_.path(), "a");
  fs::remove(folder_ / "a/samples");
  RunFolder::open(folder_ / "a");
  EXPECT_TRUE(fs::is_directory(folder_ / "a/samples"));
}

TEST_F(RunFolderTest, IsInPlaceUntilItIsMoved) {
  const RunFolder run = RunFolder::create(folder_.path(), "a");
  EXPECT_TRUE(run.is_in_place());
  fs::rename(folder_ / "a", folder_ / "kept");
  EXPECT_FALSE(run.is_in_place());
  const RunFolder other = RunFolder::create(folder_.path(), "a");
  EXPECT_TRUE(other.is_in_place());
  EXPECT_FALSE(run.is_in_place());
  EXPECT_TRUE(test::contains(message_of<std::runtime_error>([&] { run.require_in_place(); }),
                             "a' is gone; there is nowhere to save to"));
}

TEST_F(RunFolderTest, RefusesToOpenWhatIsNoRun) {
  EXPECT_EQ(message_of<std::runtime_error>([&] { RunFolder::open(folder_.path()); }),
            "'" + folder_.path().string() + "' is not a run folder: it has no folder 'weights'");
}

class RunTable : public RunFolderTest {
protected:
  RunFolder run_ = RunFolder::create(folder_.path(), "a");
};
using Metrics = RunTable;
using Samples = RunTable;
using Validation = RunTable;
using Commands = RunTable;
using SkippedFiles = RunTable;

TEST_F(Metrics, HaveAHeaderAndOneRowAnEpoch) {
  run_.add_metrics(row_of(1));
  EXPECT_EQ(contents(run_.metrics()), kHeader + text_of(1));
  run_.add_metrics(row_of(2));
  EXPECT_EQ(contents(run_.metrics()), kHeader + text_of(1) + text_of(2));
}

TEST_F(Metrics, LeaveEmptyWhatHasNoValue) {
  MetricsRow row = row_of(1);
  row.val_loss = row.val_mse = row.val_psnr = row.val_ssim = kNone;
  run_.add_metrics(row);
  EXPECT_EQ(contents(run_.metrics()), kHeader + "1,10,0.001,0.5,,,,,1000,2.5\n");
}

TEST_F(Metrics, ReplaceRowsOfTheSameAndLaterEpochs) {
  for (int epoch = 1; epoch <= 12; ++epoch) run_.add_metrics(row_of(epoch));
  MetricsRow again = row_of(3);
  again.train_loss = 7;
  run_.add_metrics(again);
  EXPECT_EQ(contents(run_.metrics()),
            kHeader + text_of(1) + text_of(2) + "3,30,0.001,7,0.25,0.125,30,0.75,1000,2.5\n");
}

TEST_F(Metrics, AreCutPastTheEpochsThatCount) {
  for (int epoch = 1; epoch <= 12; ++epoch) run_.add_metrics(row_of(epoch));
  run_.cut_metrics(100);
  std::string all = kHeader;
  for (int epoch = 1; epoch <= 12; ++epoch) all += text_of(epoch);
  EXPECT_EQ(contents(run_.metrics()), all);
  run_.cut_metrics(2);
  EXPECT_EQ(contents(run_.metrics()), kHeader + text_of(1) + text_of(2));
  run_.cut_metrics(0);
  EXPECT_EQ(contents(run_.metrics()), kHeader);
}

TEST_F(Metrics, ThatDoNotExistAreNotCut) {
  run_.cut_metrics(0);
  EXPECT_FALSE(fs::exists(run_.metrics()));
}

TEST_F(Metrics, ThatCannotBeReadArePutAside) {
  run_.cut_metrics(0);
  run_.add_metrics(row_of(1));
  EXPECT_EQ(run_.put_aside_metrics(), "");
  const std::string spoilt = "epoch;step\n1;10\n";
  for (const char* name : {"metrics.csv.old", "metrics.csv.old-2"}) {
    write_text(run_.metrics(), spoilt);
    const RunFolder run = RunFolder::watch(run_.path());  // reads it
    EXPECT_EQ(run.put_aside_metrics(), run.path() / name);
    EXPECT_EQ(contents(run.path() / name), spoilt);
    EXPECT_FALSE(fs::exists(run.metrics()));
    EXPECT_EQ(run.put_aside_metrics(), "") << "there is none";
  }
  write_text(run_.metrics(), kHeader);
  EXPECT_EQ(RunFolder::watch(run_.path()).put_aside_metrics(), "") << "it has no lines";
}

TEST_F(Metrics, WithSomeUnreadableLinesArePutAside) {
  const std::string spoilt = kHeader + text_of(1) + "2,20,0.001,a half\n" + text_of(3);
  write_text(run_.metrics(), spoilt);
  RunFolder run = RunFolder::watch(run_.path());
  EXPECT_EQ(run.put_aside_metrics(), run.path() / "metrics.csv.old");
  EXPECT_EQ(contents(run.path() / "metrics.csv.old"), spoilt);
  run.cut_metrics(3);
  EXPECT_EQ(contents(run.metrics()), kHeader + text_of(1) + text_of(3));
}

TEST_F(Metrics, ReadBackAsTheyWere) {
  EXPECT_TRUE(run_.read_metrics().empty());
  MetricsRow diverged = row_of(2);
  diverged.val_loss = std::numeric_limits<double>::infinity();
  diverged.val_ssim = kNone;
  run_.add_metrics(row_of(1));
  run_.add_metrics(diverged);
  const std::vector<MetricsRow> rows = run_.read_metrics();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].epoch, 1);
  EXPECT_EQ(rows[0].step, 10);
  EXPECT_EQ(rows[0].lr, 0.001);
  EXPECT_EQ(rows[0].val_mse, 0.125);
  EXPECT_EQ(rows[0].seconds, 2.5);
  EXPECT_EQ(rows[1].val_loss, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(rows[1].val_ssim));
}

const std::vector<std::uint8_t> kPicture = {1, 2, 3};

ImageQuality image_of(const std::string& name) { return {name, {24, 17}, 0.25, 6.5, kNone}; }

TEST_F(Samples, HaveARowAnImageBesideTheirPicture) {
  run_.write_sample("epoch_0001", 1, kPicture, {image_of("x,\n.png"), image_of("y.png")});
  EXPECT_EQ(contents(run_.path() / "samples/epoch_0001.png"), "\1\2\3");
  EXPECT_EQ(contents(run_.path() / "samples/samples.csv"),
            "picture,epoch,path,width,height,mse,psnr,ssim\n"
            "epoch_0001,1,\"x,\\n.png\",17,24,0.25,6.5,\nepoch_0001,1,y.png,17,24,0.25,6.5,\n");
  const std::vector<SampleRow> rows = run_.read_samples();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].image.name, "x,\n.png");
  EXPECT_EQ(rows[1].image.size, (Size{24, 17}));
  EXPECT_TRUE(std::isnan(rows[1].image.ssim));
}

TEST_F(Samples, KeepTheirNamesHoweverOftenTheyAreWritten) {
  const std::string odd = "dir\\x.png \xdf\t\\n";
  run_.write_sample("epoch_0001", 1, kPicture, {image_of(odd)});
  for (const int epoch : {2, 3, 4}) run_.write_sample("best", epoch, kPicture, {image_of(odd)});
  for (const SampleRow& row : run_.read_samples()) EXPECT_EQ(row.image.name, odd);
}

TEST_F(Samples, ReplaceThoseOfTheSamePicture) {
  run_.write_sample("best", 1, kPicture, {image_of("x.png"), image_of("y.png")});
  run_.write_sample("epoch_0002", 2, kPicture, {image_of("x.png")});
  run_.write_sample("best", 2, kPicture, {image_of("z.png")});
  const std::vector<SampleRow> rows = run_.read_samples();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].picture, "epoch_0002");
  EXPECT_EQ(rows[1].picture, "best");
  EXPECT_EQ(rows[1].epoch, 2);
  EXPECT_EQ(rows[1].image.name, "z.png");
}

TEST_F(Samples, AreCutWithTheMetricsOfLostEpochs) {
  for (std::int64_t epoch = 1; epoch <= 3; ++epoch) {
    run_.write_sample(RunFolder::sample_name(epoch), epoch, kPicture, {image_of("x.png")});
  }
  run_.cut_metrics(2);
  const std::vector<SampleRow> rows = run_.read_samples();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows.back().epoch, 2);
  EXPECT_TRUE(fs::exists(run_.sample(2)));
  EXPECT_FALSE(fs::exists(run_.sample(3))) << "or it would be shown as a later epoch's";
}

TEST_F(Samples, WithLinesThatAreNoRowsAreReadWithoutThem) {
  write_text(run_.path() / "samples/samples.csv",
             "picture,epoch,path,width,height,mse,psnr,ssim\nbest,none,a.png,1,1,0,0,0\n"
             "best,1,b.png,0,1,0,0,0\nbest\nbest,1,c.png,1,1,0,0,\n");
  const std::vector<SampleRow> rows = run_.read_samples();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].image.name, "c.png");
}

TEST_F(Validation, ReadsBackAsItWas) {
  EXPECT_EQ(run_.read_validation().epoch, 0);
  run_.write_validation({7, {image_of("x.png"), image_of("y.png")}});
  const ValidationTable table = run_.read_validation();
  EXPECT_EQ(table.epoch, 7);
  ASSERT_EQ(table.images.size(), 2U);
  EXPECT_EQ(table.images[1].name, "y.png");
  EXPECT_EQ(table.images[1].mse, 0.25);
}

TEST_F(Commands, AreKeptInOrder) {
  EXPECT_TRUE(run_.read_commands().empty());
  run_.add_command("convae train --data x");
  run_.add_command("convae train --resume a");
  EXPECT_EQ(run_.read_commands(),
            (std::vector<std::string>{"convae train --data x", "convae train --resume a"}));
}

TEST_F(SkippedFiles, AreWrittenAsCsv) {
  run_.write_skipped({{"a, b.png", "no \"image\""}, {"c\n.png", "empty file (0 bytes)"}});
  EXPECT_EQ(contents(run_.path() / "skipped.csv"),
            "path,reason\n\"a, b.png\",\"no \"\"image\"\"\"\nc\\n.png,empty file (0 bytes)\n");
}

}  // namespace
}  // namespace convae::test_run_folder
