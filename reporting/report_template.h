#pragma once

#include <string_view>

namespace convae {

/// reporting/report.html with its style and script, built into the library.
extern const std::string_view kReportTemplate;

}  // namespace convae
