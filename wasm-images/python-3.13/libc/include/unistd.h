/* What wasi-libc's <unistd.h> leaves out and libc/ adds. */
#include_next <unistd.h>
#ifndef WISP_UNISTD_H
#define WISP_UNISTD_H

#include <sys/types.h>

int pipe(int fds[2]);
int dup(int fd);
int dup2(int from, int to);
int dup3(int from, int to, int flags);

pid_t getppid(void);
pid_t getpgrp(void);
pid_t getpgid(pid_t pid);
int setpgid(pid_t pid, pid_t group);
pid_t setsid(void);
pid_t getsid(pid_t pid);

uid_t getuid(void);
uid_t geteuid(void);
gid_t getgid(void);
gid_t getegid(void);
int getgroups(int capacity, gid_t groups[]);

int execv(const char *path, char *const argv[]);
int execve(const char *path, char *const argv[], char *const environment[]);

int chown(const char *path, uid_t uid, gid_t gid);
int fchown(int fd, uid_t uid, gid_t gid);
int lchown(const char *path, uid_t uid, gid_t gid);
int fchownat(int directory, const char *path, uid_t uid, gid_t gid, int flags);
void sync(void);

int fchdir(int fd);
unsigned alarm(unsigned seconds);
int pause(void);

/* wasi-libc has these, but without process numbers, modes and links to go by. They would be defined twice, so that ours
   take other names. */
pid_t wisp_libc_getpid(void);
int wisp_libc_chdir(const char *path);
long wisp_libc_sysconf(int name);
int wisp_libc_access(const char *path, int mode);
int wisp_libc_faccessat(int directory, const char *path, int mode, int flags);
#define getpid() wisp_libc_getpid()
#define chdir(path) wisp_libc_chdir(path)
#define sysconf(name) wisp_libc_sysconf(name)
#define access(path, mode) wisp_libc_access(path, mode)
#define faccessat(directory, path, mode, flags) wisp_libc_faccessat(directory, path, mode, flags)

#endif
