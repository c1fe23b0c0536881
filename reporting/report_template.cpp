#include "convae/reporting/report_template.h"

#include <stdexcept>

namespace convae {

std::string report_page(std::string_view json) {
  constexpr std::string_view kPlace = "@REPORT_DATA@";
  const std::size_t place = kReportTemplate.find(kPlace);
  if (place == std::string_view::npos) throw std::logic_error("the report's template has no data");
  std::string page(kReportTemplate.substr(0, place));
  page += json;
  page += kReportTemplate.substr(place + kPlace.size());
  return page;
}

}  // namespace convae
