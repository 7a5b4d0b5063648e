//! Attacks by pipes, signals and timers.

use crate::attack::Expected::{Contained, Fails, Prints, TimesOut};
use crate::attack::{Attack, guest, python_3_13, shell};

pub fn attacks() -> Vec<Attack> {
    vec![
        guest("60 processes that poll 1,024 times at once", "poll-storm", TimesOut).memory(128),
        guest("timers of a microsecond", "timers", TimesOut),
        guest("signals to itself", "signals-to-self", TimesOut),
        guest("a pipe that only its writer could empty", "pipe-deadlock", TimesOut),
        shell("a pipe nobody reads", "yes | sleep 9", TimesOut),
        shell("a pipe whose reader goes", "yes | head -n 1 >/dev/null; echo over", Prints("over")).within(5),
        shell("a named pipe nobody opens", "mkfifo /tmp/p; cat /tmp/p", TimesOut),
        shell("a named pipe to itself", "mkfifo /tmp/p; cat </tmp/p >/tmp/p", TimesOut),
        shell("a circle of pipes", "mkfifo /tmp/p; (echo x; cat </tmp/p) | tee /tmp/p | cat >/dev/null", Contained),
        shell("tee into a hundred files", "yes | tee $(seq -f /tmp/%g 1 100) >/dev/null", Contained).within(2),
        shell("signals in a trap", "trap 'kill -USR1 $$' USR1; kill -USR1 $$; while :; do :; done", TimesOut),
        shell("a storm of signals", "sleep 9 & p=$!; while kill -0 $p; do :; done", TimesOut),
        shell("every signal there is", "for s in $(seq 1 64); do sh -c \"kill -$s \\$\\$\"; done; echo over", Contained).within(5),
        shell("stopped by itself", "kill -STOP $$; echo on", Contained),
        shell("the end of input again and again", "while :; do read -r x; done </dev/null", TimesOut),
        python_3_13("alarms as often as can be", "
import signal, time
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
while True: time.sleep(1)", TimesOut)
        .within(1),
        python_3_13("a pipe written without a reader", "import os; r, w = os.pipe(); os.close(r); os.write(w, b'x')", Fails)
            .within(5),
    ]
}
