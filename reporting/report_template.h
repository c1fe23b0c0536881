#pragma once

#include <string>
#include <string_view>

namespace convae {

/// reporting/report.html with its style and script in it, as built into the library.
extern const std::string_view kReportTemplate;

/// The page with its data in place, JSON as script_json() makes it.
std::string report_page(std::string_view json);

}  // namespace convae
