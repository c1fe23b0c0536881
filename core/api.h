#pragma once

/// Marks what libconvae offers: public headers (cmake/ConvaeLibrary.cmake lists them) open their
/// namespace with it, everything else stays hidden.
///
///     namespace CONVAE_API convae {
#define CONVAE_API [[gnu::visibility("default")]]
