/* What wasi-libc's <sys/time.h> leaves out and libc/ adds. */
#include_next <sys/time.h>
#ifndef WISP_SYS_TIME_H
#define WISP_SYS_TIME_H

/* The only timer there is. */
#define ITIMER_REAL 0

struct itimerval {
    struct timeval it_interval;
    struct timeval it_value;
};

int getitimer(int which, struct itimerval *out);
int setitimer(int which, const struct itimerval *restrict timer, struct itimerval *restrict old);

#endif
