//! `timeout`.

use std::time::{Duration, Instant};

use wisp_sys::{Command, ExitStatus, Signal};

use crate::cli::{Spec, Takes, complain, fail, reason};
use crate::launch::cannot_start;

const SPEC: Spec = Spec {
    short: "s:k:v",
    long: &[
        ("signal", "s", Takes::Value),
        ("kill-after", "k", Takes::Value),
        ("preserve-status", "preserve-status", Takes::Nothing),
        ("foreground", "foreground", Takes::Nothing),
        ("verbose", "v", Takes::Nothing),
    ],
    permute: false,
};

/// A duration with an optional unit: `1.5`, `10s`, `2m`, `1h`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.chars().next_back()? {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3600.0),
        'd' => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok().filter(|s| *s >= 0.0)? * unit;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if parsed.operands.len() < 2 => {
            return fail("timeout", "usage: timeout [OPTION] DURATION COMMAND [ARG]...", 125);
        }
        Ok(parsed) => parsed,
        Err(message) => return fail("timeout", message, 125),
    };
    let Some(limit) = duration(&parsed.operands[0]) else {
        return fail(
            "timeout",
            format_args!("invalid time interval '{}'", parsed.operands[0]),
            125,
        );
    };
    let Some(signal) = parsed.value("s").map_or(Some(Signal::TERM), Signal::from_name) else {
        return fail("timeout", "invalid signal", 125);
    };
    let grace = match parsed.value("k").map(duration) {
        Some(None) => return fail("timeout", "invalid time interval for --kill-after", 125),
        Some(grace) => grace,
        None => None,
    };
    let foreground = parsed.has("foreground");
    let program = &parsed.operands[1];
    let mut command = Command::new(program).args(&parsed.operands[2..]);
    if !foreground {
        command = command.new_group();
    }
    let pid = match command.spawn() {
        Ok(pid) => pid,
        Err(error) => return cannot_start("timeout", program, &error),
    };
    let target = if foreground { pid } else { -pid };
    // A limit of zero means none.
    if limit.is_zero() {
        return wisp_sys::wait(pid).map_or(125, |(_, status)| i32::from(status.shell_code()));
    }
    match wait_until(pid, limit) {
        Ok(Some(status)) => return i32::from(status.shell_code()),
        Ok(None) => {}
        Err(error) => return fail("timeout", reason(&error), 125),
    }
    if parsed.has("v") {
        complain(
            "timeout",
            format_args!("sending signal {} to command '{program}'", signal.name()),
        );
    }
    let _ = wisp_sys::kill(target, Some(signal));
    let mut killed = signal == Signal::KILL;
    let status = match grace.map(|grace| wait_until(pid, grace)) {
        Some(Ok(Some(status))) => status,
        Some(_) => {
            let _ = wisp_sys::kill(target, Some(Signal::KILL));
            killed = true;
            wisp_sys::wait(pid).map_or(ExitStatus::Killed(Signal::KILL), |(_, status)| status)
        }
        None => wisp_sys::wait(pid).map_or(ExitStatus::Killed(signal), |(_, status)| status),
    };
    if killed {
        137
    } else if parsed.has("preserve-status") {
        i32::from(status.shell_code())
    } else {
        124
    }
}

/// Waits for a child for at most `limit`, looking at growing intervals of 1 to 20 ms.
fn wait_until(pid: wisp_sys::Pid, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some((_, status)) = wisp_sys::try_wait(pid)? {
            return Ok(Some(status));
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("1e400"), Some(Duration::MAX));
        assert_eq!(duration("x"), None);
        assert_eq!(duration("-1"), None);
    }
}
