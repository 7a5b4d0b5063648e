/* The import module `wisp`, as docs/abi.md declares it. Every function returns an errno. */
#ifndef WISP_H
#define WISP_H

#include <stddef.h>
#include <stdint.h>

#define WISP_IMPORT(name) __attribute__((import_module("wisp"), import_name(name)))

#define WISP_WAIT_NO_HANG 1u
#define WISP_SPAWN_NEW_GROUP 1u
#define WISP_UNCHANGED UINT32_MAX

enum wisp_disposition { WISP_DEFAULT = 0, WISP_IGNORE = 1, WISP_CATCH = 2 };

struct wisp_stat {
    uint64_t dev, ino, nlink, size, blocks, atime, mtime, ctime;
    uint32_t mode, uid, gid, rdev;
    uint8_t zero[16];
};
_Static_assert(sizeof(struct wisp_stat) == 96, "the layout of docs/abi.md");

int wisp_getpid(uint32_t out[3]) WISP_IMPORT("getpid");
int wisp_pipe(uint32_t out[2]) WISP_IMPORT("pipe");
int wisp_dup(uint32_t fd, uint32_t min, uint32_t *out) WISP_IMPORT("dup");
int wisp_dup2(uint32_t from, uint32_t to) WISP_IMPORT("dup2");
int wisp_inherited(uint32_t (*out)[2], size_t capacity, uint32_t *count) WISP_IMPORT("inherited");
int wisp_spawn(const void *request, size_t length, uint32_t *pid) WISP_IMPORT("spawn");
int wisp_exec(const void *request, size_t length) WISP_IMPORT("exec");
int wisp_wait(int32_t pid, uint32_t flags, uint32_t out[2]) WISP_IMPORT("wait");
int wisp_kill(int32_t pid, uint32_t signal) WISP_IMPORT("kill");
int wisp_setpgid(uint32_t pid, uint32_t group) WISP_IMPORT("setpgid");
int wisp_sigaction(uint32_t signal, uint32_t disposition) WISP_IMPORT("sigaction");
int wisp_sigpending(uint32_t *out) WISP_IMPORT("sigpending");
int wisp_setitimer(uint64_t value, uint64_t interval, uint64_t out[2]) WISP_IMPORT("setitimer");
int wisp_umask(uint32_t mask, uint32_t *out) WISP_IMPORT("umask");
int wisp_chmod(const char *path, size_t length, uint32_t follow, uint32_t mode) WISP_IMPORT("chmod");
int wisp_fchmod(uint32_t fd, uint32_t mode) WISP_IMPORT("fchmod");
int wisp_chown(const char *path, size_t length, uint32_t follow, uint32_t uid, uint32_t gid) WISP_IMPORT("chown");
int wisp_stat(const char *path, size_t length, uint32_t follow, struct wisp_stat *out) WISP_IMPORT("stat");
int wisp_fstat(uint32_t fd, struct wisp_stat *out) WISP_IMPORT("fstat");
int wisp_statfs(uint64_t out[4]) WISP_IMPORT("statfs");
int wisp_mkfifo(const char *path, size_t length, uint32_t mode) WISP_IMPORT("mkfifo");

#endif
