//! The report as text for a terminal.

use super::report::{Report, Section};

/// Lines of prose are no longer.
const WIDTH: usize = 100;

/// The whole report.
pub fn rendered(report: &Report) -> String {
    let machine = &report.machine;
    let load = |load: Option<f64>| load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
    let mut text = format!(
        "{}: {}, {} processors, {} MiB; kernel {}; load {} before, {} after{}\n",
        report.date,
        machine.processor,
        machine.processors,
        machine.memory_mb,
        machine.kernel,
        load(report.load[0]),
        load(report.load[1]),
        if report.quick { "; a quick run" } else { "" },
    );
    for (who, version) in &report.versions {
        text.push_str(&format!("  {who}: {version}\n"));
    }
    for section in &report.sections {
        text.push('\n');
        text.push_str(&section_text(section));
    }
    text
}

/// One table, with how it was made.
pub fn section_text(section: &Section) -> String {
    let who_width = section
        .rows
        .iter()
        .map(|row| row.who.chars().count())
        .max()
        .unwrap_or(0);
    let cells: Vec<Option<Vec<String>>> = section
        .rows
        .iter()
        .map(|row| {
            let figures = row.figures.as_ref().ok()?;
            Some(
                figures
                    .iter()
                    .map(|figure| figure.map_or_else(|| "-".to_owned(), format_figure))
                    .collect(),
            )
        })
        .collect();
    let width_of = |column: usize| {
        let figures = cells.iter().flatten().map(|row: &Vec<String>| row[column].len());
        figures
            .chain([section.columns[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..section.columns.len()).map(width_of).collect();
    let mut text = format!("{}: {}\n", section.name, section.title);
    text.push_str(&wrapped(&section.method));
    text.push_str(&format!("{:who_width$}", ""));
    for (column, width) in section.columns.iter().zip(&widths) {
        text.push_str(&format!("  {column:>width$}"));
    }
    text.push('\n');
    for (row, cells) in section.rows.iter().zip(&cells) {
        text.push_str(&format!("{:who_width$}", row.who));
        match (cells, &row.figures) {
            (Some(cells), _) => cells
                .iter()
                .zip(&widths)
                .for_each(|(cell, width)| text.push_str(&format!("  {cell:>width$}"))),
            (None, Err(reason)) => text.push_str(&format!("  {}", reason.trim().replace('\n', " "))),
            (None, Ok(_)) => {}
        }
        text.push('\n');
    }
    text
}

/// A figure with about three digits that mean something.
pub fn format_figure(figure: f64) -> String {
    let decimals = match figure.abs() {
        // A count.
        _ if figure.fract() == 0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{figure:.decimals$}")
}

fn wrapped(prose: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in prose.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            column = 0;
        }
        if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn columns_line_up_and_an_absent_competitor_says_why() {
        let text = rendered(&example());
        let table = "latency: How long one takes\n\
                     Ten runs.\n\
                     \x20            p50 ms  runs\n\
                     wisp <fast>    2.50    10\n\
                     docker run     1234    10\n\
                     absent       not installed\n";
        assert!(text.ends_with(table), "{text}");
        assert!(text.contains("load 0.50 before, unknown after; a quick run"), "{text}");
        assert!(text.contains("  wisp: 0.1.0\n"), "{text}");
    }

    #[test]
    fn figures_keep_the_digits_that_mean_something() {
        let cases = [
            (0.001_234, "0.001"),
            (0.25, "0.250"),
            (2.456, "2.46"),
            (34.56, "34.6"),
            (567.8, "568"),
            (1000.0, "1000"),
        ];
        for (figure, expected) in cases {
            assert_eq!(format_figure(figure), expected);
        }
    }

    #[test]
    fn prose_is_wrapped() {
        let text = wrapped(&"word ".repeat(50));
        assert!(
            text.lines().count() > 1 && text.lines().all(|line| line.len() <= WIDTH),
            "{text}"
        );
    }
}
