/* Signals. The kernel records those that this program catches; their handlers are called where the program asks. */
#include "path.h"
#include "wisp.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#define SIGNALS 32

typedef void (*handler_t)(int);

static handler_t handlers[SIGNALS];

static int tell_kernel(int number, handler_t handler)
{
    enum wisp_disposition disposition = WISP_CATCH;
    if (handler == SIG_DFL) {
        disposition = WISP_DEFAULT;
    } else if (handler == SIG_IGN) {
        disposition = WISP_IGNORE;
    }
    return wisp_sigaction((uint32_t)number, disposition);
}

handler_t wisp_libc_signal(int number, handler_t handler)
{
    int error = number > 0 && number < SIGNALS ? tell_kernel(number, handler) : EINVAL;
    if (error != 0) {
        errno = error;
        return SIG_ERR;
    }
    handler_t old = handlers[number];
    handlers[number] = handler;
    return old;
}

void wisp_libc_restore_signals(void)
{
    for (int number = 1; number < SIGNALS; number++) {
        if (handlers[number] != SIG_DFL) {
            (void)tell_kernel(number, handlers[number]);
        }
    }
}

/* How many turns of Python's loop until it asks the kernel again. One turn takes some 50 ns. */
#define TURNS_BETWEEN_QUESTIONS 1000

int wisp_libc_signal_clock = TURNS_BETWEEN_QUESTIONS;

void wisp_libc_deliver_signals(void)
{
    uint32_t pending = 0;
    wisp_libc_signal_clock = TURNS_BETWEEN_QUESTIONS;
    if (wisp_sigpending(&pending) != 0) {
        return;
    }
    for (int number = 1; pending != 0 && number < SIGNALS; number++) {
        if ((pending & (1u << number)) == 0) {
            continue;
        }
        pending &= ~(1u << number);
        handler_t handler = handlers[number];
        if (handler != SIG_DFL && handler != SIG_IGN) {
            handler(number);
        }
    }
}

int kill(pid_t pid, int number)
{
    return wisp_result(wisp_kill(pid, (uint32_t)number));
}

int killpg(pid_t group, int number)
{
    return group < 0 ? wisp_result(EINVAL) : kill(group == 0 ? 0 : -group, number);
}

int wisp_libc_raise(int number)
{
    return kill(getpid(), number);
}
