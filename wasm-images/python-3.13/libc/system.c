/* The machine: its names, its processors, its clock. */
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

/* Reads a line of /proc. */
static void read_name(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, out, size - 1);
    if (length > 0) {
        out[length] = '\0';
        out[strcspn(out, "\n")] = '\0';
    }
    if (fd >= 0) {
        close(fd);
    }
}

int wisp_libc_uname(struct utsname *out)
{
    memset(out, 0, sizeof *out);
    read_name("/proc/sys/kernel/ostype", out->sysname, sizeof out->sysname);
    read_name("/proc/sys/kernel/hostname", out->nodename, sizeof out->nodename);
    read_name("/proc/sys/kernel/osrelease", out->release, sizeof out->release);
    strcpy(out->version, "#1 wisp");
    strcpy(out->machine, "wasm32");
    return 0;
}

static long count_processors(void)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    long count = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        count += strncmp(line, "processor", strlen("processor")) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return count > 0 ? count : 1;
}

long wisp_libc_sysconf(int name)
{
    return name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF ? count_processors() : (sysconf)(name);
}

int wisp_libc_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    /* Who wants to know what is left of a sleep asks for a time instead. */
    if ((flags & ~TIMER_ABSTIME) != 0 || left != NULL || time->tv_sec < 0 || time->tv_nsec < 0 ||
        time->tv_nsec >= 1000000000) {
        return EINVAL;
    }
    __wasi_subscription_t subscription = {
        .u.tag = __WASI_EVENTTYPE_CLOCK,
        .u.u.clock.id = clock == CLOCK_REALTIME ? __WASI_CLOCKID_REALTIME : __WASI_CLOCKID_MONOTONIC,
        .u.u.clock.flags = (__wasi_subclockflags_t)flags,
        .u.u.clock.timeout = (__wasi_timestamp_t)time->tv_sec * 1000000000u + (__wasi_timestamp_t)time->tv_nsec,
    };
    __wasi_event_t event;
    size_t events;
    __wasi_errno_t error = __wasi_poll_oneoff(&subscription, &event, 1, &events);
    return error != 0 ? error : event.error;
}
