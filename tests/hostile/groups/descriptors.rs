//! Attacks by descriptors.

use crate::attack::Expected::{Contained, Fails, Prints, TimesOut};
use crate::attack::{Attack, guest, python, python_3_13, shell};

pub fn attacks() -> Vec<Attack> {
    vec![
        guest("the 257th descriptor", "descriptors", Contained).within(5),
        guest("100,000 files opened and not closed", "opens", Prints("refused")).within(30),
        guest("named pipes until there is no room", "fifos", Prints("refused")).disk(4).within(60),
        guest("files without a name", "orphans", Prints("refused")).within(20),
        guest("a listing of 20,000 names in one buffer", "readdir-huge", TimesOut).disk(64).memory(128).within(4),
        python("open in a loop", "x = []\nwhile True: x.append(open('/tmp/f', 'w'))", Fails).within(20),
        python_3_13("dup in a loop", "import os\nwhile True: os.dup(1)", Fails).within(20),
        python_3_13("pipes in a loop", "import os\nwhile True: os.pipe()", Fails).within(20),
        shell("every number redirected", "i=3; while [ $i -lt 300 ]; do eval \"exec $i</dev/null\" || exit 0; i=$((i + 1)); done", Contained)
            .within(10),
        shell("a listing of its own descriptors", "while :; do ls /dev/fd /proc/self/fd; done >/dev/null 2>&1", TimesOut),
        shell("standard streams closed", "exec 0<&- 1>&- 2>&-; while :; do echo x; done", Contained),
        shell("a file read while it is written", "echo x >/tmp/f; cat /tmp/f >>/tmp/f; tail -f /tmp/f >>/tmp/f", Contained)
            .within(2),
    ]
}
