/* Processes, their numbers, and the descriptors they share. */
#include "process.h"

#include "path.h"
#include "wisp.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* -- Numbers ------------------------------------------------------------------------------------------------------ */

enum { OWN, PARENT, GROUP };

static pid_t number_of(int which)
{
    uint32_t numbers[3] = {0};
    (void)wisp_getpid(numbers);
    return (pid_t)numbers[which];
}

pid_t wisp_libc_getpid(void)
{
    return number_of(OWN);
}

pid_t getppid(void)
{
    return number_of(PARENT);
}

pid_t getpgrp(void)
{
    return number_of(GROUP);
}

/* The kernel tells a process its own group only. */
pid_t getpgid(pid_t pid)
{
    return pid == 0 || pid == getpid() ? getpgrp() : (pid_t)wisp_result(ESRCH);
}

int setpgid(pid_t pid, pid_t group)
{
    if (pid < 0 || group < 0) {
        return wisp_result(EINVAL);
    }
    return wisp_result(wisp_setpgid((uint32_t)pid, (uint32_t)group));
}

/* There are no terminals to lose, so that a session is a group. */
pid_t setsid(void)
{
    pid_t pid = getpid();
    if (pid == getpgrp()) {
        return (pid_t)wisp_result(EPERM);
    }
    return setpgid(0, 0) == 0 ? pid : -1;
}

pid_t getsid(pid_t pid)
{
    return getpgid(pid);
}

/* One user, root. */
uid_t getuid(void)
{
    return 0;
}

uid_t geteuid(void)
{
    return 0;
}

gid_t getgid(void)
{
    return 0;
}

gid_t getegid(void)
{
    return 0;
}

int getgroups(int capacity, gid_t groups[])
{
    if (capacity > 0) {
        groups[0] = 0;
    }
    return capacity < 0 ? wisp_result(EINVAL) : 1;
}

/* -- Descriptors -------------------------------------------------------------------------------------------------- */

int pipe(int fds[2])
{
    uint32_t ends[2];
    int error = wisp_pipe(ends);
    if (error == 0) {
        fds[0] = (int)ends[0];
        fds[1] = (int)ends[1];
    }
    return wisp_result(error);
}

int dup(int fd)
{
    uint32_t copy = 0;
    return wisp_result(wisp_dup((uint32_t)fd, 0, &copy)) == 0 ? (int)copy : -1;
}

int dup2(int from, int to)
{
    return wisp_result(wisp_dup2((uint32_t)from, (uint32_t)to)) == 0 ? to : -1;
}

int dup3(int from, int to, int flags)
{
    return from == to || flags != 0 ? wisp_result(EINVAL) : dup2(from, to);
}

/* -- Where it is -------------------------------------------------------------------------------------------------- */

/* The directory is known by a path without links and dots, as on Linux. */
int wisp_libc_chdir(const char *path)
{
    char *real = realpath(path, NULL);
    if (real == NULL) {
        return -1;
    }
    int result = (chdir)(real);
    free(real);
    return result;
}

int fchdir(int fd)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return wisp_libc_chdir(path);
}

/* -- Starting programs -------------------------------------------------------------------------------------------- */

/* The request of docs/abi.md under construction. */
struct request {
    char *bytes;
    size_t length, capacity;
    bool failed;
};

static void append(struct request *request, const void *bytes, size_t length)
{
    if (request->length + length > request->capacity && !request->failed) {
        size_t capacity = 2 * (request->length + length) + 1024;
        char *grown = realloc(request->bytes, capacity);
        if (grown == NULL) {
            request->failed = true;
        } else {
            request->bytes = grown;
            request->capacity = capacity;
        }
    }
    if (!request->failed) {
        memcpy(request->bytes + request->length, bytes, length);
        request->length += length;
    }
}

static void append_number(struct request *request, uint32_t number)
{
    append(request, &number, sizeof number);
}

static void append_bytes(struct request *request, const char *bytes, size_t length)
{
    append_number(request, (uint32_t)length);
    append(request, bytes, length);
}

static void append_strings(struct request *request, char *const *strings)
{
    uint32_t count = 0;
    while (strings != NULL && strings[count] != NULL) {
        count++;
    }
    append_number(request, count);
    for (uint32_t index = 0; index < count; index++) {
        append_bytes(request, strings[index], strlen(strings[index]));
    }
}

/* Encodes a command; 0, or -1 and errno. The caller frees `bytes` in any case. */
static int encode(struct request *request, const struct wisp_command *command)
{
    char directory[PATH_MAX];
    /* The child believes what it is told: a path without links and dots, as on Linux. */
    if (command->directory == NULL ? getcwd(directory, sizeof directory) == NULL
                                   : realpath(command->directory, directory) == NULL) {
        return -1;
    }
    size_t directory_length = strlen(directory);
    if (command->path[0] == '/') {
        append_bytes(request, command->path, strlen(command->path));
    } else {
        size_t length = strlen(command->path);
        append_number(request, (uint32_t)(directory_length + 1 + length));
        append(request, directory, directory_length);
        append(request, "/", 1);
        append(request, command->path, length);
    }
    append_bytes(request, directory, directory_length);
    append_strings(request, command->argv);
    append_strings(request, command->environment == NULL ? environ : command->environment);
    append_number(request, command->descriptor_count);
    append(request, command->descriptors, command->descriptor_count * sizeof *command->descriptors);
    append_number(request, command->new_group ? WISP_SPAWN_NEW_GROUP : 0);
    return request->failed ? wisp_result(ENOMEM) : 0;
}

pid_t wisp_libc_spawn(const struct wisp_command *command)
{
    struct request request = {0};
    uint32_t pid = 0;
    int result = encode(&request, command);
    if (result == 0) {
        result = wisp_result(wisp_spawn(request.bytes, request.length, &pid));
    }
    free(request.bytes);
    return result == 0 ? (pid_t)pid : -1;
}

static const struct wisp_descriptor STANDARD[] = {{0, 0}, {1, 1}, {2, 2}};

int execve(const char *path, char *const argv[], char *const environment[])
{
    struct request request = {0};
    struct wisp_command command = {
        .path = path, .argv = argv, .environment = environment, .descriptors = STANDARD, .descriptor_count = 3};
    int result = encode(&request, &command);
    if (result == 0) {
        result = wisp_result(wisp_exec(request.bytes, request.length));
    }
    free(request.bytes);
    return result;
}

int execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

/* -- Their ends --------------------------------------------------------------------------------------------------- */

/* docs/abi.md: bits 0 to 7 the exit code, bits 8 to 15 the signal. Linux has them the other way round. */
static int status_as_on_linux(uint32_t status)
{
    return (int)((status & 0xff) << 8 | (status >> 8 & 0x7f));
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    uint32_t ended[2] = {0};
    /* A group cannot be waited for; any child is a superset of it. */
    int32_t which = pid > 0 ? pid : -1;
    int error = wisp_wait(which, (options & WNOHANG) ? WISP_WAIT_NO_HANG : 0, ended);
    if (error != 0) {
        return wisp_result(error);
    }
    if (status != NULL && ended[0] != 0) {
        *status = status_as_on_linux(ended[1]);
    }
    return (pid_t)ended[0];
}

pid_t wait(int *status)
{
    return waitpid(-1, status, 0);
}

int system(const char *command)
{
    if (command == NULL) {
        return 1;
    }
    char *argv[] = {"sh", "-c", (char *)command, NULL};
    struct wisp_command shell = {.path = "/bin/sh", .argv = argv, .descriptors = STANDARD, .descriptor_count = 3};
    pid_t pid = wisp_libc_spawn(&shell);
    if (pid < 0) {
        return -1;
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return status;
}
