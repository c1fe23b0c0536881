// In the wheel's build: libarchive's table of all the formats that it writes, without the formats
// and what they need. The writer of tar asks it only to complain of a file that tar cannot hold.
extern "C" void __archive_write_entry_filetype_unsupported(void* /*archive*/, void* /*entry*/,
                                                           const char* /*format*/) {}
