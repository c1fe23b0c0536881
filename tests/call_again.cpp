// Preloaded into the program, this makes one process of many calls. Most of a short call is the
// start of LibTorch, a quarter of a second; here it is loaded once, and every call is a fork of the
// process that has it. What runs is the program itself from main on, each time in a process and a
// folder of its own.
//
// CALLS is the number of a socket (SOCK_SEQPACKET). In: "folder\0word\0word\0…" with three files,
// for standard input, output and error. Out: the process id, and once it has ended its wait status.
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kLongestCall = 1 << 16;
using Files = std::array<int, 3>;

std::string next_call(int socket, Files& files) {
  std::string words(kLongestCall, '\0');
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(Files))> space{};
  iovec bytes{words.data(), words.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  const ssize_t length = recvmsg(socket, &message, 0);
  if (length <= 0) _exit(0);  // the tests have ended
  std::memcpy(files.data(), CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(Files));
  words.resize(static_cast<std::size_t>(length));
  return words;
}

/// Returns in the forks alone.
std::string serve(int socket) {
  for (;;) {
    Files files;
    std::string call = next_call(socket, files);
    int said = fork();
    if (said == 0) {
      for (int i = 0; i < 3; ++i) dup2(files[i], i);
      for (const int file : files) close(file);
      close(socket);
      return call;
    }
    for (const int file : files) close(file);
    const pid_t process = said;
    send(socket, &said, sizeof said, 0);
    waitpid(process, &said, 0);
    send(socket, &said, sizeof said, 0);
  }
}

using Main = int(int, char**, char**);
using Call = void();
using Start = int(Main*, int, char**, Call*, Call*, Call*, void*);

}  // namespace

/// The program's entry code calls it after the constructors of all libraries.
extern "C" [[gnu::visibility("default")]] int __libc_start_main(Main* main, int count, char** words,
                                                                Call* init, Call* end,
                                                                Call* end_of_loader, void* stack) {
  static std::string call;
  static std::vector<char*> own{words[0]};
  if (const char* calls = std::getenv("CALLS")) {
    const int socket = std::atoi(calls);
    unsetenv("CALLS");
    unsetenv("LD_PRELOAD");
    call = serve(socket);
    if (chdir(call.c_str()) != 0) _exit(127);
    for (std::size_t at = std::strlen(call.c_str()) + 1; at < call.size();
         at += std::strlen(&call[at]) + 1) {
      own.push_back(&call[at]);
    }
    count = static_cast<int>(own.size());
    own.push_back(nullptr);
    words = own.data();
  }
  const auto start = reinterpret_cast<Start*>(dlsym(RTLD_NEXT, "__libc_start_main"));
  return start(main, count, words, init, end, end_of_loader, stack);
}
