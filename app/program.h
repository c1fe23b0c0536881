#pragma once

namespace convae::app {

/// The whole program: takes main()'s arguments and returns its exit code; throws nothing.
int run_program(int argc, char** argv) noexcept;

}  // namespace convae::app
