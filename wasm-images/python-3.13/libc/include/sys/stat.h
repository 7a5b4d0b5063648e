/* Modes, owners and fifos, which wasi-libc's <sys/stat.h> leaves out or ignores. */
#include_next <sys/stat.h>
#ifndef WISP_SYS_STAT_H
#define WISP_SYS_STAT_H

mode_t umask(mode_t mask);
int mkfifo(const char *path, mode_t mode);
int lchmod(const char *path, mode_t mode);

/* wasi-libc's own leave the mode out. They would be defined twice, so that ours take other names. */
int wisp_libc_stat(const char *restrict path, struct stat *restrict out);
int wisp_libc_lstat(const char *restrict path, struct stat *restrict out);
int wisp_libc_fstat(int fd, struct stat *out);
int wisp_libc_fstatat(int directory, const char *restrict path, struct stat *restrict out, int flags);
int wisp_libc_chmod(const char *path, mode_t mode);
int wisp_libc_fchmod(int fd, mode_t mode);
int wisp_libc_fchmodat(int directory, const char *path, mode_t mode, int flags);
int wisp_libc_mkdir(const char *path, mode_t mode);
int wisp_libc_mkdirat(int directory, const char *path, mode_t mode);
#define stat(path, out) wisp_libc_stat(path, out)
#define lstat(path, out) wisp_libc_lstat(path, out)
#define fstat(fd, out) wisp_libc_fstat(fd, out)
#define fstatat(directory, path, out, flags) wisp_libc_fstatat(directory, path, out, flags)
#define chmod(path, mode) wisp_libc_chmod(path, mode)
#define fchmod(fd, mode) wisp_libc_fchmod(fd, mode)
#define fchmodat(directory, path, mode, flags) wisp_libc_fchmodat(directory, path, mode, flags)
#define mkdir(path, mode) wisp_libc_mkdir(path, mode)
#define mkdirat(directory, path, mode) wisp_libc_mkdirat(directory, path, mode)

#endif
