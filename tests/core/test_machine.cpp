#include "convae/core/limits.h"
#include "convae/core/machine.h"
#include "convae/core/parallel.h"
#include "convae/core/size.h"
#include "convae/core/text.h"
#include "convae/tests/support.h"

#include <ATen/Parallel.h>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace convae::test_machine {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;

/// While it lives, the process keeps to so many bytes.
struct MemoryLimit {
  explicit MemoryLimit(std::int64_t bytes) { limit_memory(bytes); }
  ~MemoryLimit() { limit_memory(0); }
};

TEST(Memory, WhatIsFreeOfALimitIsWhatTheProcessHasNotTaken) {
  const std::int64_t without = free_memory_bytes();
  EXPECT_EQ(limit_text(1e9), "");
  const MemoryLimit limit(8LL << 30);
  EXPECT_EQ(memory_limit_bytes(), 8LL << 30);
  const std::int64_t before = free_memory_bytes();
  EXPECT_LT(before, 8LL << 30);
  EXPECT_LE(before, without + (64 << 20));
  const std::vector<char> taken(std::size_t{256} << 20, 1);
  EXPECT_LT(free_memory_bytes(), before - (200 << 20)) << taken.size();
}

TEST(Memory, ALimitThatIsReachedLeavesNothingAndNamesOneThatWouldDo) {
  const MemoryLimit limit(1 << 20);
  EXPECT_EQ(free_memory_bytes(), 1);
  const std::string text = limit_text(3.0 * (1 << 30));
  EXPECT_TRUE(text.starts_with(" within --memory 1M (--memory ")) << text;
  const std::string would_do = text.substr(30, text.find(" would") - 30);
  EXPECT_GT(parse_bytes(would_do).value_or(0), 3LL << 30) << text;
}

TEST(Bytes, AreReadAndWrittenInUnitsOf1024) {
  EXPECT_EQ(parse_bytes("4G"), 4LL << 30);
  EXPECT_EQ(parse_bytes("1.5T"), 3LL << 39);
  EXPECT_EQ(parse_bytes("4096"), 4096);
  EXPECT_EQ(bytes_text(4LL << 30), "4G");
  EXPECT_EQ(bytes_text(3LL << 29), "1536M");
  for (const std::int64_t bytes : {1LL, 1023LL, 1024LL, 1395864371LL, 1LL << 59}) {
    EXPECT_EQ(parse_bytes(bytes_text(bytes)), bytes);
  }
  for (const char* text :
       {"", "0", "G", "-1G", "0G", "4g", "4GB", "nanG", "1e9T", " 4G", "1e-9K"}) {
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
  }
}

/// The files that a process with control groups would see.
class GroupLimitsTest : public testing::Test {
protected:
  void mount(const std::string& type, const std::string& at, const std::string& options,
             const std::string& root = "/") {
    mounts_ += "30 20 0:26 " + root + " " + (folder_ / at).string() + " rw,nosuid shared:4 - " +
               type + " " + type + " rw," + options + "\n";
  }

  GroupLimits limits(const std::string& groups) {
    write_text(folder_ / "self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts_);
    write_text(folder_ / "self/cgroup", groups);
    return group_limits(folder_ / "self");
  }

  void write(const std::string& name, const std::string& text) {
    write_text(folder_ / name, text + "\n");
  }

  std::string mounts_;
  TemporaryFolder folder_;
};

TEST_F(GroupLimitsTest, Version2TakesTheLowestOfAllAncestors) {
  mount("cgroup2", "cg", "nsdelegate");
  write("cg/memory.max", "max");  // of the root
  write("cg/slice/memory.max", "5000");
  write("cg/slice/memory.current", "4500");
  write("cg/slice/memory.stat", "anon 300\nfile 4100\ninactive_file 3000\nactive_file 1000");
  write("cg/slice/job/memory.max", "9000");
  write("cg/slice/job/memory.current", "100");
  write("cg/slice/cpu.max", "250000 100000");
  write("cg/slice/job/cpu.max", "max 100000");
  const GroupLimits found = limits("0::/slice/job\n");
  EXPECT_EQ(found.free_bytes, 5000 - (4500 - 4000)) << "page cache does not count";
  EXPECT_EQ(found.cores, 2) << "rounded down";
  EXPECT_EQ(found.limit_bytes, 5000) << "whatever is used of it";
}

TEST_F(GroupLimitsTest, Version1HasAHierarchyForEachController) {
  mount("cgroup", "cpu", "cpu,cpuacct");
  mount("cgroup", "memory", "memory");
  write("memory/memory.limit_in_bytes", "9223372036854771712");
  write("memory/memory.usage_in_bytes", "123456");
  write("memory/docker/a/memory.limit_in_bytes", "734003200");
  write("memory/docker/a/memory.usage_in_bytes", "34003200");
  write("memory/docker/a/memory.stat", "active_file 7\ntotal_inactive_file 3000000\n");
  write("cpu/docker/cpu.cfs_quota_us", "50000");
  write("cpu/docker/cpu.cfs_period_us", "100000");
  write("cpu/docker/a/cpu.cfs_quota_us", "-1");
  const GroupLimits found =
      limits("9:name=systemd:/other\n4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/\n");
  EXPECT_EQ(found.free_bytes, 703'000'000);
  EXPECT_EQ(found.cores, 1) << "at least";
}

TEST_F(GroupLimitsTest, HybridMountHasLimitsInEither) {
  mount("cgroup", "memory", "memory");
  mount("cgroup2", "unified", "nsdelegate");
  write("memory/a/memory.limit_in_bytes", "1000");
  write("memory/a/memory.usage_in_bytes", "1500");
  write("unified/b/cpu.max", "400000 100000");
  const GroupLimits found = limits("4:memory:/a\n0::/b\n");
  EXPECT_EQ(found.free_bytes, 0) << "never less";
  EXPECT_EQ(found.cores, 4);
}

TEST_F(GroupLimitsTest, AContainerSeesItsOwnGroupAsTheMountsRoot) {
  mount("cgroup", "memory", "memory", "/docker/a");
  write("memory/memory.limit_in_bytes", "1000");
  write("memory/memory.usage_in_bytes", "400");
  EXPECT_EQ(limits("4:memory:/docker/a\n").free_bytes, 600);
  EXPECT_EQ(limits("4:memory:/elsewhere\n").free_bytes, 600);
  EXPECT_EQ(limits("4:memory:/../../b\n").free_bytes, 600);
}

TEST_F(GroupLimitsTest, NothingThatCanBeReadIsNoLimit) {
  EXPECT_EQ(group_limits(folder_ / "nowhere").free_bytes, -1);
  EXPECT_EQ(group_limits(folder_ / "nowhere").cores, 0);
  mount("cgroup2", "cg", "");
  write("cg/memory.max", "max");
  write("cg/memory.current", "77");
  write("cg/cpu.max", "max 100000");
  EXPECT_EQ(limits("0::/\n").free_bytes, -1);
  EXPECT_EQ(limits("0::/\n").cores, 0);
}

TEST(Machine, FreeMemoryAndCoresAreThoseOfTheLowestLimit) {
  EXPECT_GE(available_cores(), 1);
  EXPECT_GT(free_memory_bytes(), 0);
  if (const std::int64_t quota = group_limits().cores; quota > 0) {
    EXPECT_LE(available_cores(), quota);
  }
}

TEST(Parallel, AnExceptionOfAnyThreadComesOutAfterAllAreDone) {
  std::atomic<int> calls = 0;
  const auto work = [&](std::int64_t i) {
    ++calls;
    if (i % 3 == 1) throw std::runtime_error("image is damaged");
  };
  at::set_num_threads(4);
  EXPECT_EQ(message_of<std::runtime_error>([&] { parallel_for_each(8, work); }),
            "image is damaged");
  at::set_num_threads(1);
  EXPECT_EQ(calls, 8);
}

TEST(Parallel, ThreadsThatCannotStartAreDoneWithout) {
  pthread_attr_t usual, hopeless;
  pthread_getattr_default_np(&usual);
  pthread_getattr_default_np(&hopeless);
  // No address space has room for such a stack: pthread_create fails as at a limit on processes.
  pthread_attr_setstacksize(&hopeless, std::size_t{1} << 47);
  pthread_setattr_default_np(&hopeless);
  const std::size_t started = start_threads(3, [] {}).size();
  pthread_setattr_default_np(&usual);
  EXPECT_EQ(started, 0U);
  EXPECT_EQ(start_threads(3, [] {}).size(), 3U);
}

TEST(Size, AreaOfTheLargestImagesIsRight) {
  EXPECT_EQ((Size{46341, 46341}).area(), 2'147'488'281) << "above what an int holds";
}

TEST(MachineShare, DividesCoresAndMemory) {
  const std::int64_t memory = free_memory_bytes();
  share_machine({.processes = 4, .cores = 0.5});
  EXPECT_EQ(available_cores(), 1) << "half a core";
  EXPECT_LT(free_memory_bytes(), memory / 2);
  EXPECT_GT(free_memory_bytes(), memory / 8);
  double sixths = 0;  // a little less than 1
  for (int i = 0; i < 6; ++i) sixths += 1.0 / 6;
  ASSERT_LT(sixths, 1);
  share_machine({.processes = 3, .cores = sixths});
  EXPECT_EQ(available_cores(), 1);
  share_machine({});
}

TEST(AvailableCores, AreThoseThatTheProcessMayUse) {
  std::int64_t cores = 0;
  std::thread([&] {
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &one);
    }
    sched_setaffinity(0, sizeof one, &one);  // this thread's alone
    cores = available_cores();
  }).join();
  EXPECT_EQ(cores, 1);
}

}  // namespace
}  // namespace convae::test_machine
