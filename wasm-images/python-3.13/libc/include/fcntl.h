/* Opening files with a mode, which wasi-libc ignores. */
#include_next <fcntl.h>
#ifndef WISP_FCNTL_H
#define WISP_FCNTL_H

int wisp_libc_open(const char *path, int flags, ...);
int wisp_libc_openat(int directory, const char *path, int flags, ...);
#define open(...) wisp_libc_open(__VA_ARGS__)
#define openat(...) wisp_libc_openat(__VA_ARGS__)

#endif
