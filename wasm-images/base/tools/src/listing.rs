//! How files are shown: permission letters, owners' names, dates.

use std::fs;

use wisp_sys::Stat;

/// The letter `ls -l` begins a line with.
pub fn type_letter(mode: u32) -> char {
    match mode & Stat::TYPE_MASK {
        Stat::DIRECTORY => 'd',
        Stat::SYMLINK => 'l',
        Stat::FIFO => 'p',
        Stat::CHARACTER_DEVICE => 'c',
        Stat::BLOCK_DEVICE => 'b',
        Stat::SOCKET => 's',
        _ => '-',
    }
}

/// `drwxr-xr-x` and the like.
pub fn permission_letters(mode: u32) -> String {
    let mut letters = String::with_capacity(10);
    letters.push(type_letter(mode));
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        letters.push(if bits & 4 != 0 { 'r' } else { '-' });
        letters.push(if bits & 2 != 0 { 'w' } else { '-' });
        letters.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    letters
}

/// The names in `/etc/passwd` and `/etc/group`.
pub struct Owners {
    users: Vec<(String, u32)>,
    groups: Vec<(String, u32)>,
}

impl Owners {
    /// Reads both files; a missing one has no names.
    pub fn read() -> Self {
        Self {
            users: names("/etc/passwd"),
            groups: names("/etc/group"),
        }
    }

    /// The user's name, or the number when it has none.
    pub fn user(&self, id: u32) -> String {
        name_of(&self.users, id)
    }

    /// The group's name, or the number when it has none.
    pub fn group(&self, id: u32) -> String {
        name_of(&self.groups, id)
    }

    /// The number of a user given by name or number.
    pub fn user_id(&self, name: &str) -> Option<u32> {
        id_of(&self.users, name)
    }

    /// The number of a group given by name or number.
    pub fn group_id(&self, name: &str) -> Option<u32> {
        id_of(&self.groups, name)
    }
}

fn names(file: &str) -> Vec<(String, u32)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

fn name_of(names: &[(String, u32)], id: u32) -> String {
    match names.iter().find(|(_, number)| *number == id) {
        Some((name, _)) => name.clone(),
        None if id == 0 => "root".to_owned(),
        None => id.to_string(),
    }
}

fn id_of(names: &[(String, u32)], name: &str) -> Option<u32> {
    let known = names.iter().find(|(n, _)| n == name).map(|(_, id)| *id);
    known.or_else(|| name.parse().ok()).or((name == "root").then_some(0))
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A moment in UTC, taken apart.
struct Moment {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    year_day: i64,
    seconds: i64,
    nanos: u64,
    second_of_day: i64,
}

/// The civil date of a number of days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970 of a civil date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Seconds since 1970 of a moment in UTC, for `mktime` of awk. Fields may exceed their usual range.
pub fn seconds_of(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> i64 {
    let month = month.saturating_sub(1);
    let year = year.clamp(-1_000_000, 1_000_000) + month.div_euclid(12);
    let days = days_of(year, month.rem_euclid(12) + 1, 1).saturating_add(day.saturating_sub(1));
    let minutes = hour.saturating_mul(60).saturating_add(minute);
    days.saturating_mul(86_400)
        .saturating_add(minutes.saturating_mul(60))
        .saturating_add(second)
}

impl Moment {
    fn new(seconds: i64, nanos: u64) -> Self {
        let days = seconds.div_euclid(86_400);
        let (year, month, day) = civil(days);
        Self {
            year,
            month: (month - 1) as usize,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            year_day: days - days_of(year, 1, 1),
            seconds,
            nanos,
            second_of_day: seconds.rem_euclid(86_400),
        }
    }

    fn part(&self, key: char, out: &mut String) {
        let (hour, minute, second) = (
            self.second_of_day / 3600,
            self.second_of_day / 60 % 60,
            self.second_of_day % 60,
        );
        let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
        let text = match key {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year.rem_euclid(100)),
            'C' => format!("{:02}", self.year.div_euclid(100)),
            'm' => format!("{:02}", self.month + 1),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'H' => format!("{hour:02}"),
            'k' => format!("{hour:2}"),
            'I' => format!("{hour12:02}"),
            'l' => format!("{hour12:2}"),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'N' => format!("{:09}", self.nanos),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'j' => format!("{:03}", self.year_day + 1),
            'a' => DAYS[self.weekday][..3].to_owned(),
            'A' => DAYS[self.weekday].to_owned(),
            'b' | 'h' => MONTHS[self.month][..3].to_owned(),
            'B' => MONTHS[self.month].to_owned(),
            'u' => (if self.weekday == 0 { 7 } else { self.weekday }).to_string(),
            'w' => self.weekday.to_string(),
            's' => self.seconds.to_string(),
            'z' => "+0000".to_owned(),
            'Z' => "UTC".to_owned(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            'F' => return self.format("%Y-%m-%d", out),
            'T' | 'X' => return self.format("%H:%M:%S", out),
            'R' => return self.format("%H:%M", out),
            'r' => return self.format("%I:%M:%S %p", out),
            'D' | 'x' => return self.format("%m/%d/%y", out),
            'c' => return self.format("%a %b %e %H:%M:%S %Y", out),
            other => format!("%{other}"),
        };
        out.push_str(&text);
    }

    fn format(&self, format: &str, out: &mut String) {
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            match (c, c == '%') {
                (_, true) => match chars.next() {
                    Some(key) => self.part(key, out),
                    None => out.push('%'),
                },
                (c, _) => out.push(c),
            }
        }
    }
}

/// Formats nanoseconds since 1970 as strftime(3) does in UTC.
pub fn format_date(nanos: u64, format: &str) -> String {
    let mut out = String::new();
    Moment::new((nanos / 1_000_000_000) as i64, nanos % 1_000_000_000).format(format, &mut out);
    out
}

/// As [`format_date`], from seconds, which may lie before 1970.
pub fn format_seconds(seconds: i64, format: &str) -> String {
    let mut out = String::new();
    Moment::new(seconds, 0).format(format, &mut out);
    out
}

/// The date column of `ls -l`: the time of day for files younger than half a year, else the year.
pub fn date_for_listing(nanos: u64, now: u64) -> String {
    const HALF_A_YEAR: u64 = 31_556_952 / 2 * 1_000_000_000;
    let recent = nanos <= now && now - nanos < HALF_A_YEAR;
    format_date(nanos, if recent { "%b %e %H:%M" } else { "%b %e  %Y" })
}

/// A size with one decimal below ten and a unit, rounded up as `ls -h` does.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit = (bytes.ilog2() / 10) as usize;
    // Tenths of the unit, rounded up.
    let mut tenths = (u128::from(bytes) * 10).div_ceil(1 << (10 * unit));
    if tenths > 10_230 {
        unit += 1;
        tenths = (u128::from(bytes) * 10).div_ceil(1 << (10 * unit));
    }
    let name = UNITS.get(unit).unwrap_or(&"E");
    if tenths < 100 {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        format!("{}{name}", tenths.div_ceil(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_the_calendar() {
        assert_eq!(format_seconds(0, "%F %T %a %j"), "1970-01-01 00:00:00 Thu 001");
        assert_eq!(format_seconds(951_782_400, "%F %A"), "2000-02-29 Tuesday");
        assert_eq!(seconds_of(2000, 2, 29, 0, 0, 0), 951_782_400);
        assert_eq!(format_seconds(-1, "%F %T"), "1969-12-31 23:59:59");
    }

    #[test]
    fn permissions_show_the_special_bits() {
        assert_eq!(permission_letters(0o040_755), "drwxr-xr-x");
        assert_eq!(permission_letters(0o041_777), "drwxrwxrwt");
        assert_eq!(permission_letters(0o104_655), "-rwSr-xr-x");
    }

    #[test]
    fn sizes_round_up() {
        assert_eq!(human_size(1023), "1023");
        assert_eq!(human_size(1024), "1.0K");
        assert_eq!(human_size(1025), "1.1K");
        assert_eq!(human_size(10_240), "10K");
        assert_eq!(human_size(1_048_576), "1.0M");
    }
}
