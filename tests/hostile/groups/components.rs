//! Attacks by way of WASI 0.2, by the program of `tests/guests/component`.

use crate::attack::Expected::{Contained, Prints, Says, TimesOut};
use crate::attack::{Attack, component};

pub fn attacks() -> Vec<Attack> {
    vec![
        component("pollables without end", "pollables", Says("tool: killed: ")).within(10),
        component("streams without end", "streams", Says("tool: killed: ")).within(10),
        component("preopened directories without end", "directories", Says("tool: killed: ")).within(10),
        component("directory listings without end", "listings", Says("tool: killed: ")).within(10),
        component("open files without end", "files", Prints("quota after 255")).within(10),
        component("60 sandboxes with pollables without end", "pollables", Says("tool: killed: ")).within(20).times(60),
        component("a poll of three million pollables", "poll-many 3000000", Says("too much data")).within(10),
        component("polls of 500 pollables in a loop", "poll-loop 500", TimesOut),
        component("polls of a ready pollable in a loop", "poll-ready", TimesOut),
        component("a wait without end", "wait", TimesOut),
        component("a path of 2 MiB", "long-path", Prints("Err(\"name-too-long\")")).within(10),
        component("a write beyond the permit", "unpermitted", Says("tool: killed: ")).within(10),
        component("random bytes in a loop", "random-loop", TimesOut),
        component("memory.fill of 48 MiB in a loop", "fill-memory", TimesOut),
        component("memory without end", "grow", Contained).within(10),
        component("memory without end, 16 sandboxes", "grow", Contained).within(20).times(16),
        component("recursion without end", "recurse", Says("out of bounds")).within(10),
        component("a busy loop, eight sandboxes", "spin", TimesOut).times(8),
        component("output without end", "flood", TimesOut),
    ]
}
