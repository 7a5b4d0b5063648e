/* Waiting for child processes. The status has the bits that Linux gives it. */
#ifndef WISP_SYS_WAIT_H
#define WISP_SYS_WAIT_H

#include <sys/types.h>

#define WNOHANG 1
#define WUNTRACED 2
#define WCONTINUED 8

#define WEXITSTATUS(status) (((status) >> 8) & 0xff)
#define WTERMSIG(status) ((status) & 0x7f)
#define WIFEXITED(status) (WTERMSIG(status) == 0)
#define WIFSIGNALED(status) (WTERMSIG(status) != 0)
/* Processes are never stopped here, and leave no core. */
#define WCOREDUMP(status) ((void)(status), 0)
#define WIFSTOPPED(status) ((void)(status), 0)
#define WSTOPSIG(status) WEXITSTATUS(status)
#define WIFCONTINUED(status) ((void)(status), 0)

pid_t wait(int *status);
pid_t waitpid(pid_t pid, int *status, int options);

#endif
