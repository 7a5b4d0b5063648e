/* Starting programs, for what needs more than system() and execve(). */
#ifndef WISP_PROCESS_H
#define WISP_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct wisp_descriptor {
    uint32_t child, own;
};

struct wisp_command {
    /* The program file; relative to `directory` unless absolute. */
    const char *path;
    char *const *argv;
    /* "KEY=value" strings; NULL: this program's. */
    char *const *environment;
    /* Where it starts, absolute; NULL: this program's working directory. */
    const char *directory;
    /* The descriptors it gets; it has no others. */
    const struct wisp_descriptor *descriptors;
    uint32_t descriptor_count;
    bool new_group;
};

/* Starts a child. Returns its number, or -1 and sets errno. */
pid_t wisp_libc_spawn(const struct wisp_command *command);

#endif
