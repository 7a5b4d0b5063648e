/* A sleep that tells when a signal interrupts it. */
#include_next <time.h>
#ifndef WISP_TIME_H
#define WISP_TIME_H

int wisp_libc_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left);
#define clock_nanosleep(clock, flags, time, left) wisp_libc_clock_nanosleep(clock, flags, time, left)

#endif
