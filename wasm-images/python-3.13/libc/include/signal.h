/* What wasi-libc's <signal.h> leaves out and libc/ adds. */
#include_next <signal.h>
#ifndef WISP_SIGNAL_H
#define WISP_SIGNAL_H

#include <sys/types.h>

int kill(pid_t pid, int number);
int killpg(pid_t group, int number);

/* wasi-libc's own know nothing of other processes. They would be defined twice, so that ours take other names. */
void (*wisp_libc_signal(int number, void (*handler)(int)))(int);
int wisp_libc_raise(int number);
#define signal(number, handler) wisp_libc_signal(number, handler)
#define raise(number) wisp_libc_raise(number)

/* Calls the handlers of the signals that arrived since the last call. */
void wisp_libc_deliver_signals(void);
/* Counts down to when that is due in a loop that calls nothing that blocks. */
extern int wisp_libc_signal_clock;
/* Tells the kernel again what this program does on each signal: a snapshot keeps the handlers, not the kernel's side. */
void wisp_libc_restore_signals(void);

#endif
