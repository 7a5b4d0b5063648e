/* Modes, owners and space of files. */
#include "path.h"
#include "wisp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The functions of wasi-libc, which these build on. */
#undef open
#undef openat
#undef mkdir
#undef mkdirat

#define DEFAULT_FILE_MODE 0666
#define DEFAULT_DIRECTORY_MODE 0777
#define BLOCK_BYTES 4096
#define NAME_BYTES 255

static struct timespec time_of(uint64_t nanoseconds)
{
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
}

static int fill(int error, const struct wisp_stat *from, struct stat *out)
{
    if (error != 0) {
        return wisp_result(error);
    }
    memset(out, 0, sizeof *out);
    out->st_dev = from->dev;
    out->st_ino = from->ino;
    out->st_nlink = from->nlink;
    out->st_mode = from->mode;
    out->st_uid = from->uid;
    out->st_gid = from->gid;
    out->st_rdev = from->rdev;
    out->st_size = (off_t)from->size;
    out->st_blksize = BLOCK_BYTES;
    out->st_blocks = (blkcnt_t)from->blocks;
    out->st_atim = time_of(from->atime);
    out->st_mtim = time_of(from->mtime);
    out->st_ctim = time_of(from->ctime);
    return 0;
}

int wisp_libc_fstatat(int directory, const char *restrict path, struct stat *restrict out, int flags)
{
    struct wisp_path absolute;
    struct wisp_stat found;
    if (wisp_path_resolve(&absolute, directory, path) != 0) {
        return -1;
    }
    return fill(wisp_stat(absolute.bytes, absolute.length, !(flags & AT_SYMLINK_NOFOLLOW), &found), &found, out);
}

int wisp_libc_stat(const char *restrict path, struct stat *restrict out)
{
    return wisp_libc_fstatat(AT_FDCWD, path, out, 0);
}

int wisp_libc_lstat(const char *restrict path, struct stat *restrict out)
{
    return wisp_libc_fstatat(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

int wisp_libc_fstat(int fd, struct stat *out)
{
    struct wisp_stat found;
    return fill(wisp_fstat((uint32_t)fd, &found), &found, out);
}

/* Everyone is root here: only executing a file that has no execute bit is ever refused. */
int wisp_libc_faccessat(int directory, const char *path, int mode, int flags)
{
    struct stat found;
    (void)flags;
    if (wisp_libc_fstatat(directory, path, &found, 0) != 0) {
        return -1;
    }
    if ((mode & X_OK) && !S_ISDIR(found.st_mode) && !(found.st_mode & 0111)) {
        return wisp_result(EACCES);
    }
    return 0;
}

int wisp_libc_access(const char *path, int mode)
{
    return wisp_libc_faccessat(AT_FDCWD, path, mode, 0);
}

mode_t umask(mode_t mask)
{
    uint32_t old = 0;
    (void)wisp_umask((uint32_t)mask & 0777, &old);
    return (mode_t)old;
}

static mode_t without_umask(mode_t mode)
{
    uint32_t mask = 0;
    (void)wisp_umask(WISP_UNCHANGED, &mask);
    return mode & ~(mode_t)mask;
}

int wisp_libc_fchmod(int fd, mode_t mode)
{
    return wisp_result(wisp_fchmod((uint32_t)fd, (uint32_t)mode & 07777));
}

int wisp_libc_fchmodat(int directory, const char *path, mode_t mode, int flags)
{
    struct wisp_path absolute;
    if (wisp_path_resolve(&absolute, directory, path) != 0) {
        return -1;
    }
    uint32_t follow = !(flags & AT_SYMLINK_NOFOLLOW);
    return wisp_result(wisp_chmod(absolute.bytes, absolute.length, follow, (uint32_t)mode & 07777));
}

int wisp_libc_chmod(const char *path, mode_t mode)
{
    return wisp_libc_fchmodat(AT_FDCWD, path, mode, 0);
}

int lchmod(const char *path, mode_t mode)
{
    return wisp_libc_fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}

int fchownat(int directory, const char *path, uid_t uid, gid_t gid, int flags)
{
    struct wisp_path absolute;
    if (wisp_path_resolve(&absolute, directory, path) != 0) {
        return -1;
    }
    uint32_t follow = !(flags & AT_SYMLINK_NOFOLLOW);
    return wisp_result(wisp_chown(absolute.bytes, absolute.length, follow, (uint32_t)uid, (uint32_t)gid));
}

int chown(const char *path, uid_t uid, gid_t gid)
{
    return fchownat(AT_FDCWD, path, uid, gid, 0);
}

int lchown(const char *path, uid_t uid, gid_t gid)
{
    return fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int fchown(int fd, uid_t uid, gid_t gid)
{
    char path[32];
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    return chown(path, uid, gid);
}

int mkfifo(const char *path, mode_t mode)
{
    struct wisp_path absolute;
    if (wisp_path_resolve(&absolute, AT_FDCWD, path) != 0) {
        return -1;
    }
    return wisp_result(wisp_mkfifo(absolute.bytes, absolute.length, (uint32_t)mode));
}

/* preview1 makes files without a mode. Another than the usual one is set afterwards, if this call made the file. */
static int open_with_mode(int directory, const char *path, int flags, mode_t mode)
{
    if (!(flags & O_CREAT) || (mode & 07777) == DEFAULT_FILE_MODE) {
        return openat(directory, path, flags);
    }
    int fd = openat(directory, path, flags | O_EXCL);
    if (fd >= 0) {
        if (wisp_libc_fchmod(fd, without_umask(mode)) != 0) {
            close(fd);
            return -1;
        }
        return fd;
    }
    if (errno != EEXIST || (flags & O_EXCL)) {
        return -1;
    }
    return openat(directory, path, flags);
}

static mode_t mode_argument(int flags, va_list arguments)
{
    return (flags & O_CREAT) ? (mode_t)va_arg(arguments, int) : DEFAULT_FILE_MODE;
}

int wisp_libc_openat(int directory, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_argument(flags, arguments);
    va_end(arguments);
    return open_with_mode(directory, path, flags, mode);
}

int wisp_libc_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_argument(flags, arguments);
    va_end(arguments);
    if (!(flags & O_CREAT) || (mode & 07777) == DEFAULT_FILE_MODE) {
        return open(path, flags);
    }
    return open_with_mode(AT_FDCWD, path, flags, mode);
}

static int set_directory_mode(int directory, const char *path, mode_t mode)
{
    if ((mode & 07777) == DEFAULT_DIRECTORY_MODE) {
        return 0;
    }
    return wisp_libc_fchmodat(directory, path, without_umask(mode), 0);
}

int wisp_libc_mkdir(const char *path, mode_t mode)
{
    return mkdir(path, DEFAULT_DIRECTORY_MODE) != 0 ? -1 : set_directory_mode(AT_FDCWD, path, mode);
}

int wisp_libc_mkdirat(int directory, const char *path, mode_t mode)
{
    return mkdirat(directory, path, DEFAULT_DIRECTORY_MODE) != 0 ? -1 : set_directory_mode(directory, path, mode);
}

static int space(struct statvfs *out)
{
    uint64_t usage[4];
    int error = wisp_statfs(usage);
    if (error != 0) {
        return wisp_result(error);
    }
    memset(out, 0, sizeof *out);
    out->f_bsize = out->f_frsize = BLOCK_BYTES;
    out->f_blocks = usage[0] / BLOCK_BYTES;
    out->f_bfree = out->f_bavail = (usage[0] - usage[1]) / BLOCK_BYTES;
    out->f_files = usage[2];
    out->f_ffree = out->f_favail = usage[2] - usage[3];
    out->f_namemax = NAME_BYTES;
    return 0;
}

int wisp_libc_statvfs(const char *restrict path, struct statvfs *restrict out)
{
    return wisp_libc_access(path, F_OK) != 0 ? -1 : space(out);
}

int wisp_libc_fstatvfs(int fd, struct statvfs *out)
{
    struct stat found;
    return wisp_libc_fstat(fd, &found) != 0 ? -1 : space(out);
}

/* Files are in memory: there is nothing to write back. */
void sync(void) {}
