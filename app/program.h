#pragma once

/// The whole program, in a library of its own: app/main.cpp prepares the process, then loads it.
/// Takes main()'s arguments and returns its exit code; throws nothing.
extern "C" __attribute__((visibility("default"))) int convae_program(int argc, char** argv);
