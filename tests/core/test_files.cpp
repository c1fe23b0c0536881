#include "convae/core/files.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>

namespace convae::test_files {
namespace {

namespace fs = std::filesystem;
using test::contents;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;

class FileIo : public testing::Test {
protected:
  std::set<std::string> names() const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      all.insert(entry.path().filename().string());
    }
    return all;
  }

  TemporaryFolder folder_;
};

TEST_F(FileIo, ReadsAllBytes) {
  std::string text(300'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31);
  write_text(folder_ / "file", text);
  const auto bytes = read_file(folder_ / "file");
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), text);
  write_text(folder_ / "empty", "");
  EXPECT_TRUE(read_file(folder_ / "empty").empty());
}

TEST_F(FileIo, ReadsFilesThatDoNotKnowTheirSize) {
  if (!fs::exists("/proc/self/status")) GTEST_SKIP() << "no /proc";
  EXPECT_EQ(fs::file_size("/proc/self/status"), 0u);
  EXPECT_GT(read_file("/proc/self/status").size(), 100u);
  const auto read = [] { read_file("/proc/self/status", 10); };
  EXPECT_TRUE(test::contains(message_of<std::runtime_error>(read), "limit of 10 bytes"));
}

TEST_F(FileIo, HoldsToTheLimit) {
  write_text(folder_ / "file", "12345");
  EXPECT_EQ(read_file(folder_ / "file", 5).size(), 5u);
  EXPECT_EQ(
      message_of<std::runtime_error>([&] { read_file(folder_ / "file", 4); }),
      "cannot read " + (folder_ / "file").string() + ": 5 bytes are more than the limit of 4");
}

TEST_F(FileIo, RefusesWhatIsNotAFile) {
  const auto reason = [&](const fs::path& path) {
    return message_of<std::runtime_error>([&] { read_file(path); });
  };
  const auto start = "cannot read " + folder_.path().string();
  EXPECT_EQ(reason(folder_.path()), start + ": it is a folder");
  EXPECT_EQ(reason(folder_ / "missing"), start + "/missing: No such file or directory");
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(reason(folder_ / "pipe"), start + "/pipe: not a regular file (a pipe)");
  fs::create_symlink("pipe", folder_ / "link");
  EXPECT_EQ(reason(folder_ / "link"), start + "/link: not a regular file (a pipe)");
  fs::create_symlink("loop", folder_ / "loop");
  EXPECT_EQ(reason(folder_ / "loop"), start + "/loop: Too many levels of symbolic links");
  EXPECT_EQ(reason("/dev/zero"), "cannot read /dev/zero: not a regular file (a device)");
  write_text(folder_ / "file", "x");
  EXPECT_EQ(reason(folder_ / "file/under"), start + "/file/under: Not a directory");
}

TEST_F(FileIo, SaysWhenAFileMayNotBeRead) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  write_text(folder_ / "secret", "x");
  fs::permissions(folder_ / "secret", fs::perms::none);
  EXPECT_EQ(message_of<std::runtime_error>([&] { read_file(folder_ / "secret"); }),
            "cannot read " + (folder_ / "secret").string() + ": Permission denied");
}

TEST_F(FileIo, ShowsNamesSafely) {
  EXPECT_EQ(message_of<std::runtime_error>([&] { read_file("no\n\x1b[31msuch"); }),
            "cannot read no\\n\\x1b[31msuch: No such file or directory");
}

TEST_F(FileIo, AppearsOnlyWhenCommitted) {
  {
    AtomicFile file(folder_ / "out.txt");
    file.write("half");
    EXPECT_FALSE(fs::exists(folder_ / "out.txt"));
    EXPECT_EQ(names().size(), 1u);
    EXPECT_TRUE(names().begin()->starts_with(".out.txt.tmp-" + std::to_string(::getpid()) + "-"));
    file.write(" and half");
    file.commit();
    EXPECT_EQ(names(), std::set<std::string>{"out.txt"});
  }
  EXPECT_EQ(contents(folder_ / "out.txt"), "half and half");
}

TEST_F(FileIo, LeavesTheOldFileWhenDropped) {
  write_text(folder_ / "out.txt", "old");
  { AtomicFile(folder_ / "out.txt").write("new"); }
  EXPECT_EQ(names(), std::set<std::string>{"out.txt"});
  EXPECT_EQ(contents(folder_ / "out.txt"), "old");
  write_file(folder_ / "out.txt", "new");
  EXPECT_EQ(contents(folder_ / "out.txt"), "new");
}

TEST_F(FileIo, ReplacesNoFileThatCameMeanwhile) {
  AtomicFile mine(folder_ / "out.txt"), theirs(folder_ / "out.txt");
  mine.write("mine");
  theirs.write("theirs");
  theirs.commit();
  EXPECT_EQ(
      message_of<std::runtime_error>([&] { mine.commit(); }),
      "'" + (folder_ / "out.txt").string() + "' exists: another process has written it meanwhile");
  EXPECT_EQ(names(), std::set<std::string>{"out.txt"});
  EXPECT_EQ(contents(folder_ / "out.txt"), "theirs");
}

TEST_F(FileIo, ReplacesALinkThatLeadsNowhere) {
  fs::create_symlink("unmounted/out.txt", folder_ / "out.txt");
  write_file(folder_ / "out.txt", "text");
  EXPECT_FALSE(fs::is_symlink(folder_ / "out.txt"));
  EXPECT_EQ(contents(folder_ / "out.txt"), "text");
}

TEST_F(FileIo, EndsWithoutWhatIsUnfinishedAndWithAllElse) {
  write_file(folder_ / "done.txt", "done");
  AtomicFile half(folder_ / "half.txt");
  half.write("half");
  { AtomicFile(folder_ / "dropped.txt").write("dropped"); }
  EXPECT_EXIT(exit_without_unfinished_files(3), testing::ExitedWithCode(3), "");
  EXPECT_EQ(names(), std::set<std::string>{"done.txt"});
  EXPECT_THROW(half.commit(), std::runtime_error);
  EXPECT_EQ(names(), std::set<std::string>{"done.txt"});
}

TEST_F(FileIo, LeavesNothingWhenWritingFails) {
  // A limit on the size of files stands in for a full disk.
  write_text(folder_ / "out.txt", "old");
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string write_reason, commit_reason;
  {
    AtomicFile file(folder_ / "out.txt");
    write_reason = message_of<std::runtime_error>([&] { file.write(std::string(5000, 'x')); });
    commit_reason = message_of<std::runtime_error>([&] { file.commit(); });
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(write_reason, "cannot write " + (folder_ / "out.txt").string() + ": File too large");
  EXPECT_NE(commit_reason, "");
  EXPECT_EQ(names(), std::set<std::string>{"out.txt"});
  EXPECT_EQ(contents(folder_ / "out.txt"), "old");
}

TEST_F(FileIo, RefusesToReplaceWhatIsNotAFile) {
  const auto reason = [](const fs::path& path) {
    return message_of<std::runtime_error>([&] { write_file(path, "text"); });
  };
  const auto start = "cannot write " + folder_.path().string();
  EXPECT_EQ(reason(folder_.path()), start + ": it is a folder");
  EXPECT_EQ(reason(folder_ / ""), start + "/: Is a directory");
  EXPECT_EQ(reason("/dev/null"), "cannot write /dev/null: not a regular file (a device)");
  EXPECT_EQ(reason(folder_ / "missing/out"), start + "/missing/out: No such file or directory");
  EXPECT_EQ(reason(""), "cannot write : No such file or directory");
  EXPECT_TRUE(names().empty());
}

TEST_F(FileIo, TakesTheLongestNames) {
  const std::string longest(255, 'n');
  write_file(folder_ / longest, "text");
  EXPECT_EQ(contents(folder_ / longest), "text");
  const auto write = [&] { write_file(folder_ / (longest + "n"), "text"); };
  EXPECT_TRUE(test::contains(message_of<std::runtime_error>(write), "File name too long"));
  EXPECT_EQ(names(), std::set<std::string>{longest});
}

TEST_F(FileIo, FollowsTheUmask) {
  const mode_t before = ::umask(027);
  write_file(folder_ / "out", "text");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "out").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST_F(FileIo, WritesBytesAndNamesWithoutAFolder) {
  const auto before = fs::current_path();
  fs::current_path(folder_.path());
  const std::vector<std::uint8_t> bytes = {0, 255, 10};
  write_file("plain", bytes);
  write_file("empty", "");
  fs::current_path(before);
  EXPECT_EQ(read_file(folder_ / "plain"), bytes);
  EXPECT_EQ(names(), (std::set<std::string>{"empty", "plain"}));
}

TEST(Printable, KeepsWhatCanBeShown) {
  EXPECT_EQ(printable("a b-\"'.png"), "a b-\"'.png");
  EXPECT_EQ(printable("gr\xC3\xBC\xC3\x9F \xE7\x8C\xAB \xF0\x9F\x90\x88"),
            "gr\xC3\xBC\xC3\x9F \xE7\x8C\xAB \xF0\x9F\x90\x88");
  EXPECT_EQ(printable(""), "");
}

TEST(Printable, EscapesControlCharacters) {
  EXPECT_EQ(printable("a\nb\tc\\d"), "a\\nb\\tc\\\\d");
  EXPECT_EQ(printable("\x1b[2J\r\x7f"), "\\x1b[2J\\x0d\\x7f");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\xC2\x9B"), "\\xc2\\x9b");  // U+009B begins a command on some terminals
  EXPECT_EQ(printable("\xC2\xA0"), "\xC2\xA0");
}

TEST(Printable, EscapesInvalidUtf8) {
  EXPECT_EQ(printable("\xFFx"), "\\xffx");
  EXPECT_EQ(printable("\xC3"), "\\xc3");
  EXPECT_EQ(printable("\xC0\xAF"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(printable("\xF4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(printable("\xE7\x8C"), "\\xe7\\x8c");
}

TEST(JsonText, LeavesEscapingToJson) {
  EXPECT_EQ(json_text(""), "");
  EXPECT_EQ(json_text("a\nb\tc\\d\x7f\xC3\xBC"), "a\nb\tc\\d\x7f\xC3\xBC");
  EXPECT_EQ(json_text("a\nb\xFF"), "a\\nb\\xff");
}

TEST(ShellWord, IsInQuotesWhereAShellNeedsThem) {
  EXPECT_EQ(shell_word("runs/night-2"), "runs/night-2");
  EXPECT_EQ(shell_word("my runs/a b"), "'my runs/a b'");
  EXPECT_EQ(shell_word("$(date)'s"), "'$(date)'\\''s'");
  EXPECT_EQ(shell_word("a\nb's"), "$'a\\nb\\'s'");
  EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
}  // namespace convae::test_files
