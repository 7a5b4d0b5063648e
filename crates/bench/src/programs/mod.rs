//! Ten small programs that compute, in the manner of the usual Python benchmarks. Each defines `work()`, which returns
//! a number that is the same everywhere, and takes a tenth of a second natively.

/// A program that computes.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name in the table.
    pub name: &'static str,
    source: &'static str,
}

/// All of them.
pub const PROGRAMS: [Program; 10] = [
    program("nbody", include_str!("nbody.py")),
    program("fannkuch", include_str!("fannkuch.py")),
    program("spectral", include_str!("spectral_norm.py")),
    program("json", include_str!("json_round_trip.py")),
    program("regex", include_str!("regex.py")),
    program("constraints", include_str!("constraints.py")),
    program("scheduler", include_str!("scheduler.py")),
    program("pidigits", include_str!("pidigits.py")),
    program("strings", include_str!("strings.py")),
    program("sorting", include_str!("sorting.py")),
];

const fn program(name: &'static str, source: &'static str) -> Program {
    Program { name, source }
}

impl Program {
    /// The program, printing its result and the seconds it took.
    pub fn timed(&self) -> String {
        format!(
            "{}\n\nimport time\nstarted = time.perf_counter()\nresult = work()\nprint(result, time.perf_counter() - started)\n",
            self.source
        )
    }
}
