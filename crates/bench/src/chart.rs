//! A bar chart as SVG, for a page that shows the comparison.
//!
//! The scale is logarithmic: the competitors differ by orders of magnitude, and on a linear scale the fast ones would
//! have no length at all.

use super::report::Section;
use super::table::format_figure;

/// Height of a bar and its gap, pixels.
const ROW: f64 = 30.0;
const BAR: f64 = 20.0;
const WIDTH: f64 = 820.0;
/// Where the bars begin: names stand to the left.
const LEFT: f64 = 290.0;
/// Where the bars end at the most: figures stand to the right.
const RIGHT: f64 = WIDTH - 90.0;
/// Space for the title.
const TOP: f64 = 56.0;
/// Space for the names of the grid lines and the caption.
const BOTTOM: f64 = 52.0;

/// Colours that can be told apart on a light and on a dark page; the chart brings its own background.
const OURS: &str = "#0f766e";
const OTHERS: &str = "#94a3b8";
/// Rows whose name starts so are ours.
const OUR_NAME: &str = "wisp";

/// A bar for each competitor that has a figure in this column, which is in milliseconds. None without any figure.
pub fn bars(section: &Section, column: &str, caption: &str) -> Option<String> {
    let figures: Vec<(&str, f64)> = section
        .rows
        .iter()
        .filter_map(|row| Some((row.who.as_str(), section.figure(&row.who, column)?)))
        .filter(|(_, figure)| *figure > 0.0)
        .collect();
    let (least, most) = figures
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), (_, figure)| {
            (least.min(*figure), most.max(*figure))
        });
    if figures.is_empty() {
        return None;
    }
    // A grid line at each power of ten; the smallest bar keeps some length.
    let (low, high) = ((least / 2.0).log10().floor() as i32, most.log10().ceil() as i32);
    let decade = (RIGHT - LEFT) / f64::from((high - low).max(1));
    let place = |figure: f64| LEFT + (figure.log10() - f64::from(low)) * decade;
    let bottom = TOP + ROW * super::statistics::count(figures.len());
    let height = bottom + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"14\" fill=\"#1e293b\">\n\
         <title>{title}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#f8fafc\"/>\n\
         <text x=\"20\" y=\"32\" font-size=\"16\" font-weight=\"600\">{title} ({column}, logarithmic scale)</text>\n",
        title = escaped(&capitalised(section.title)),
    );
    for power in low..=high {
        let (x, label) = (place(10_f64.powi(power)), tick(power));
        svg.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#cbd5e1\"/>\n\
             <text x=\"{x:.1}\" y=\"{y}\" font-size=\"12\" text-anchor=\"middle\" fill=\"#64748b\">{label}</text>\n",
            y = bottom + 18.0,
        ));
    }
    let mut y = TOP + (ROW - BAR) / 2.0;
    for (who, figure) in figures {
        let colour = if who.starts_with(OUR_NAME) { OURS } else { OTHERS };
        let (end, text_y) = (place(figure), y + 15.0);
        svg.push_str(&format!(
            "<text x=\"{names}\" y=\"{text_y}\" text-anchor=\"end\">{who}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"{colour}\"/>\n\
             <text x=\"{figures:.1}\" y=\"{text_y}\" font-weight=\"600\">{figure} ms</text>\n",
            names = LEFT - 10.0,
            who = escaped(who),
            width = end - LEFT,
            figures = end + 8.0,
            figure = format_figure(figure),
        ));
        y += ROW;
    }
    svg.push_str(&format!(
        "<text x=\"20\" y=\"{y}\" font-size=\"12\" fill=\"#64748b\">{caption}</text>\n</svg>\n",
        y = height - 12.0,
        caption = escaped(caption),
    ));
    Some(svg)
}

/// The name of the grid line at this power of ten.
fn tick(power: i32) -> String {
    let decimals = usize::try_from(-power).unwrap_or(0);
    format!("{:.decimals$}", 10_f64.powi(power))
}

/// The text as a heading.
fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters.as_str().chars()).collect()
}

/// Text as it stands between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    fn widths(svg: &str) -> Vec<f64> {
        svg.lines()
            .filter(|line| line.starts_with("<rect x="))
            .map(|line| {
                line.split("width=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect()
    }

    #[test]
    fn a_bar_is_as_long_as_the_logarithm_of_its_figure() {
        let report = example();
        let svg = bars(report.section("latency").unwrap(), "p50 ms", "on a machine").unwrap();
        let widths = widths(&svg);
        // 2.5 and 1234.5 ms between grid lines at 1 and 10000 ms.
        let decade = (RIGHT - LEFT) / 4.0;
        assert_eq!(widths.len(), 2, "{svg}");
        assert!((widths[0] - 2.5_f64.log10() * decade).abs() < 0.1, "{widths:?}");
        assert!((widths[1] - 1234.5_f64.log10() * decade).abs() < 0.1, "{widths:?}");
        assert!(svg.contains("wisp &lt;fast&gt;") && !svg.contains("<fast>"), "{svg}");
        assert!(!svg.contains("absent"), "{svg}");
    }

    #[test]
    fn one_figure_has_a_bar_and_none_has_no_chart() {
        let section = |figure: f64| {
            let mut section = Section::new("latency", "title", String::new(), &["p50 ms"]);
            section.add("wisp", Ok(vec![figure]));
            section
        };
        for figure in [0.004, 1.0, 1000.0] {
            let svg = bars(&section(figure), "p50 ms", "").unwrap();
            assert!(widths(&svg)[0] > 1.0, "{svg}");
        }
        assert_eq!(bars(&section(0.0), "p50 ms", ""), None);
        assert_eq!(bars(&section(1.0), "p99 ms", ""), None);
    }
}
