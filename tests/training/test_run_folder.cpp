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

TEST(RunFolderTest, TakesTheNextFreeName) {
  TemporaryFolder folder;
  const fs::path output = folder / "new/runs";  // made on the way
  EXPECT_EQ(RunFolder::create(output, "night").path(), output / "night");
  EXPECT_EQ(RunFolder::create(output, "night").path(), output / "night-2");
  EXPECT_EQ(RunFolder::create(output, "night").path(), output / "night-3");
  EXPECT_EQ(RunFolder::create(output, "day").path(), output / "day");
  write_text(output / "day-2", "a file in the way");
  EXPECT_EQ(RunFolder::create(output, "day").path(), output / "day-3");
  EXPECT_EQ(contents(output / "day-2"), "a file in the way");
}

TEST(RunFolderTest, DoesNotCountUpWhereItMayNot) {
  const test::TemporaryFolder folder;
  RunFolder::create(folder.path(), "job", /*counts_up=*/false);
  const std::string message = test::message_of<std::runtime_error>(
      [&] { RunFolder::create(folder.path(), "job", /*counts_up=*/false); });
  EXPECT_TRUE(test::contains(message, "another process has begun the run")) << message;
  EXPECT_FALSE(std::filesystem::exists(folder / "job-2"));
}

TEST(RunFolderTest, MakesRoomForWeightsAndSamples) {
  TemporaryFolder folder;
  const RunFolder run = RunFolder::create(folder.path(), "a");
  EXPECT_TRUE(fs::is_directory(folder / "a/weights"));
  EXPECT_TRUE(fs::is_directory(folder / "a/samples"));
  EXPECT_EQ(run.config(), folder / "a/config.toml");
  EXPECT_EQ(run.log(), folder / "a/train.log");
  EXPECT_EQ(run.last(), folder / "a/weights/last.safetensors");
  EXPECT_EQ(run.best(), folder / "a/weights/best.safetensors");
  EXPECT_EQ(run.epoch_weights(20), folder / "a/weights/epoch_0020.safetensors");
  EXPECT_EQ(run.epoch_weights(12345), folder / "a/weights/epoch_12345.safetensors");
  EXPECT_EQ(run.sample(1), folder / "a/samples/epoch_0001.png");
}

TEST(RunFolderTest, LatestLeadsToTheNewestRun) {
  TemporaryFolder folder;
  RunFolder::create(folder.path(), "b").make_latest();
  EXPECT_EQ(fs::read_symlink(folder / "latest"), "b");  // relative: the folder may be moved
  RunFolder::create(folder.path(), "a").make_latest();
  EXPECT_EQ(fs::read_symlink(folder / "latest"), "a");
  RunFolder::create(folder.path(), "b").make_latest();
  EXPECT_EQ(fs::read_symlink(folder / "latest"), "b-2");
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++entries;
  EXPECT_EQ(entries, 4);  // three runs and the link, no temporary one
}

TEST(RunFolderTest, LatestReplacesADanglingLinkButNothingElse) {
  TemporaryFolder folder;
  fs::create_symlink("deleted-run", folder / "latest");
  RunFolder::create(folder.path(), "a").make_latest();
  EXPECT_EQ(fs::read_symlink(folder / "latest"), "a");
  fs::remove(folder / "latest");
  write_text(folder / "latest/precious", "x");
  RunFolder::create(folder.path(), "b").make_latest();
  EXPECT_EQ(contents(folder / "latest/precious"), "x");
}

TEST(RunFolderTest, SaysWhichFolderCannotBeMade) {
  TemporaryFolder folder;
  write_text(folder / "file", "x");
  const std::string in_file =
      message_of<std::runtime_error>([&] { RunFolder::create(folder / "file/runs", "a"); });
  EXPECT_EQ(in_file,
            "cannot create the folder '" + folder.path().string() + "/file/runs': Not a directory");
  const std::string no_parent =
      message_of<std::runtime_error>([&] { RunFolder::create(folder.path(), "not/there"); });
  EXPECT_EQ(no_parent, "cannot create the folder '" + folder.path().string() +
                           "/not/there': No such file or directory");
}

TEST(RunFolderTest, OpensThroughLatestButStaysWithTheRun) {
  TemporaryFolder folder;
  RunFolder::create(folder.path(), "a").make_latest();
  const RunFolder run = RunFolder::open(folder / "latest");
  EXPECT_EQ(run.path(), folder / "a");
  RunFolder::create(folder.path(), "b").make_latest();
  EXPECT_EQ(run.path(), folder / "a");
}

TEST(RunFolderTest, MakesSamplesAgainWhenOpened) {
  TemporaryFolder folder;
  RunFolder::create(folder.path(), "a");
  fs::remove(folder / "a/samples");
  RunFolder::open(folder / "a");
  EXPECT_TRUE(fs::is_directory(folder / "a/samples"));
}

TEST(RunFolderTest, IsInPlaceUntilItIsMoved) {
  TemporaryFolder folder;
  const RunFolder run = RunFolder::create(folder.path(), "a");
  EXPECT_TRUE(run.is_in_place());
  fs::rename(folder / "a", folder / "kept");
  EXPECT_FALSE(run.is_in_place());
  const RunFolder other = RunFolder::create(folder.path(), "a");
  EXPECT_TRUE(other.is_in_place());
  EXPECT_FALSE(run.is_in_place());
  EXPECT_TRUE(test::contains(message_of<std::runtime_error>([&] { run.require_in_place(); }),
                             "a' is gone; there is nowhere to save to"));
}

TEST(RunFolderTest, RefusesToOpenWhatIsNoRun) {
  TemporaryFolder folder;
  EXPECT_EQ(message_of<std::runtime_error>([&] { RunFolder::open(folder.path()); }),
            "'" + folder.path().string() + "' is not a run folder: it has no folder 'weights'");
}

TEST(Metrics, HaveAHeaderAndOneRowAnEpoch) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  run.add_metrics(row_of(1));
  EXPECT_EQ(contents(folder / "a/metrics.csv"), kHeader + text_of(1));
  run.add_metrics(row_of(2));
  EXPECT_EQ(contents(folder / "a/metrics.csv"), kHeader + text_of(1) + text_of(2));
}

TEST(Metrics, LeaveEmptyWhatHasNoValue) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  MetricsRow row = row_of(1);
  row.val_loss = row.val_mse = row.val_psnr = row.val_ssim = kNone;
  run.add_metrics(row);
  EXPECT_EQ(contents(folder / "a/metrics.csv"), kHeader + "1,10,0.001,0.5,,,,,1000,2.5\n");
}

TEST(Metrics, ReplaceRowsOfTheSameAndLaterEpochs) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  for (int epoch = 1; epoch <= 12; ++epoch) run.add_metrics(row_of(epoch));
  MetricsRow again = row_of(3);
  again.train_loss = 7;
  run.add_metrics(again);
  EXPECT_EQ(contents(folder / "a/metrics.csv"),
            kHeader + text_of(1) + text_of(2) + "3,30,0.001,7,0.25,0.125,30,0.75,1000,2.5\n");
}

TEST(Metrics, AreCutPastTheEpochsThatCount) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  for (int epoch = 1; epoch <= 12; ++epoch) run.add_metrics(row_of(epoch));
  run.cut_metrics(100);
  std::string all = kHeader;
  for (int epoch = 1; epoch <= 12; ++epoch) all += text_of(epoch);
  EXPECT_EQ(contents(folder / "a/metrics.csv"), all);
  run.cut_metrics(2);
  EXPECT_EQ(contents(folder / "a/metrics.csv"), kHeader + text_of(1) + text_of(2));
  run.cut_metrics(0);
  EXPECT_EQ(contents(folder / "a/metrics.csv"), kHeader);
}

TEST(Metrics, ThatDoNotExistAreNotCut) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  run.cut_metrics(0);
  EXPECT_FALSE(fs::exists(folder / "a/metrics.csv"));
}

TEST(Metrics, ThatCannotBeReadArePutAside) {
  TemporaryFolder folder;
  {
    RunFolder run = RunFolder::create(folder.path(), "a");
    run.cut_metrics(0);
    run.add_metrics(row_of(1));
    EXPECT_EQ(run.put_aside_metrics(), "");
  }
  const std::string spoilt = "epoch;step\n1;10\n";
  for (const char* name : {"metrics.csv.old", "metrics.csv.old-2"}) {
    write_text(folder / "a/metrics.csv", spoilt);
    const RunFolder run = RunFolder::open(folder / "a");
    EXPECT_EQ(run.put_aside_metrics(), run.path() / name);
    EXPECT_EQ(contents(run.path() / name), spoilt);
    EXPECT_FALSE(fs::exists(run.metrics()));
    EXPECT_EQ(run.put_aside_metrics(), "") << "there is none";
  }
  write_text(folder / "a/metrics.csv", kHeader);
  EXPECT_EQ(RunFolder::open(folder / "a").put_aside_metrics(), "") << "it has no lines";
}

TEST(Metrics, WithSomeUnreadableLinesArePutAside) {
  TemporaryFolder folder;
  RunFolder::create(folder.path(), "a");
  const std::string spoilt = kHeader + text_of(1) + "2,20,0.001,a half\n" + text_of(3);
  write_text(folder / "a/metrics.csv", spoilt);
  RunFolder run = RunFolder::open(folder / "a");
  EXPECT_EQ(run.put_aside_metrics(), run.path() / "metrics.csv.old");
  EXPECT_EQ(contents(run.path() / "metrics.csv.old"), spoilt);
  run.cut_metrics(3);
  EXPECT_EQ(contents(run.metrics()), kHeader + text_of(1) + text_of(3));
}

TEST(Metrics, ReadBackAsTheyWere) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  EXPECT_TRUE(run.read_metrics().empty());
  MetricsRow diverged = row_of(2);
  diverged.val_loss = std::numeric_limits<double>::infinity();
  diverged.val_ssim = kNone;
  run.add_metrics(row_of(1));
  run.add_metrics(diverged);
  const std::vector<MetricsRow> rows = run.read_metrics();
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

TEST(Samples, HaveARowAnImageBesideTheirPicture) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  run.write_sample("epoch_0001", 1, kPicture, {image_of("x,\n.png"), image_of("y.png")});
  EXPECT_EQ(contents(folder / "a/samples/epoch_0001.png"), "\1\2\3");
  EXPECT_EQ(contents(folder / "a/samples/samples.csv"),
            "picture,epoch,path,width,height,mse,psnr,ssim\n"
            "epoch_0001,1,\"x,\\n.png\",17,24,0.25,6.5,\nepoch_0001,1,y.png,17,24,0.25,6.5,\n");
  const std::vector<SampleRow> rows = run.read_samples();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].image.name, "x,\n.png");
  EXPECT_EQ(rows[1].image.size, (Size{24, 17}));
  EXPECT_TRUE(std::isnan(rows[1].image.ssim));
}

TEST(Samples, KeepTheirNamesHoweverOftenTheyAreWritten) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  const std::string odd = "dir\\x.png \xdf\t\\n";
  run.write_sample("epoch_0001", 1, kPicture, {image_of(odd)});
  for (const int epoch : {2, 3, 4}) run.write_sample("best", epoch, kPicture, {image_of(odd)});
  for (const SampleRow& row : run.read_samples()) EXPECT_EQ(row.image.name, odd);
}

TEST(Samples, ReplaceThoseOfTheSamePicture) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  run.write_sample("best", 1, kPicture, {image_of("x.png"), image_of("y.png")});
  run.write_sample("epoch_0002", 2, kPicture, {image_of("x.png")});
  run.write_sample("best", 2, kPicture, {image_of("z.png")});
  const std::vector<SampleRow> rows = run.read_samples();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].picture, "epoch_0002");
  EXPECT_EQ(rows[1].picture, "best");
  EXPECT_EQ(rows[1].epoch, 2);
  EXPECT_EQ(rows[1].image.name, "z.png");
}

TEST(Samples, AreCutWithTheMetricsOfLostEpochs) {
  TemporaryFolder folder;
  RunFolder run = RunFolder::create(folder.path(), "a");
  for (std::int64_t epoch = 1; epoch <= 3; ++epoch) {
    run.write_sample(RunFolder::sample_name(epoch), epoch, kPicture, {image_of("x.png")});
  }
  run.cut_metrics(2);
  const std::vector<SampleRow> rows = run.read_samples();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows.back().epoch, 2);
  EXPECT_TRUE(fs::exists(run.sample(2)));
  EXPECT_FALSE(fs::exists(run.sample(3))) << "or it would be shown as a later epoch's";
}

TEST(Samples, WithLinesThatAreNoRowsAreReadWithoutThem) {
  TemporaryFolder folder;
  const RunFolder run = RunFolder::create(folder.path(), "a");
  write_text(folder / "a/samples/samples.csv",
             "picture,epoch,path,width,height,mse,psnr,ssim\nbest,none,a.png,1,1,0,0,0\n"
             "best,1,b.png,0,1,0,0,0\nbest\nbest,1,c.png,1,1,0,0,\n");
  const std::vector<SampleRow> rows = run.read_samples();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].image.name, "c.png");
}

TEST(Validation, ReadsBackAsItWas) {
  TemporaryFolder folder;
  const RunFolder run = RunFolder::create(folder.path(), "a");
  EXPECT_EQ(run.read_validation().epoch, 0);
  run.write_validation({7, {image_of("x.png"), image_of("y.png")}});
  const ValidationTable table = run.read_validation();
  EXPECT_EQ(table.epoch, 7);
  ASSERT_EQ(table.images.size(), 2U);
  EXPECT_EQ(table.images[1].name, "y.png");
  EXPECT_EQ(table.images[1].mse, 0.25);
}

TEST(Commands, AreKeptInOrder) {
  TemporaryFolder folder;
  const RunFolder run = RunFolder::create(folder.path(), "a");
  EXPECT_TRUE(run.read_commands().empty());
  run.add_command("convae train --data x");
  run.add_command("convae train --resume a");
  EXPECT_EQ(run.read_commands(),
            (std::vector<std::string>{"convae train --data x", "convae train --resume a"}));
}

TEST(SkippedFiles, AreWrittenAsCsv) {
  TemporaryFolder folder;
  const RunFolder run = RunFolder::create(folder.path(), "a");
  run.write_skipped({{"a, b.png", "no \"image\""}, {"c\n.png", "empty file (0 bytes)"}});
  EXPECT_EQ(contents(folder / "a/skipped.csv"),
            "path,reason\n\"a, b.png\",\"no \"\"image\"\"\"\nc\\n.png,empty file (0 bytes)\n");
}

}  // namespace
}  // namespace convae::test_run_folder
