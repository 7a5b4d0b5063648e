/* Space in the sandbox. */
#include_next <sys/statvfs.h>
#ifndef WISP_SYS_STATVFS_H
#define WISP_SYS_STATVFS_H

int wisp_libc_statvfs(const char *restrict path, struct statvfs *restrict out);
int wisp_libc_fstatvfs(int fd, struct statvfs *out);
#define statvfs(path, out) wisp_libc_statvfs(path, out)
#define fstatvfs(fd, out) wisp_libc_fstatvfs(fd, out)

#endif
