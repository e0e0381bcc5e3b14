//! The figures as a picture: a bar a case, as wide as its readings per CPU-second, with the least and the most of its runs marked.

use std::fmt::Write as _;

use super::report::Report;

const LEFT: f64 = 210.0;
const WIDE: f64 = 520.0;
const RIGHT: f64 = 150.0;
const ROW: f64 = 24.0;
const TOP: f64 = 44.0;

/// An SVG document.
#[expect(clippy::cast_precision_loss, reason = "a number of cases")]
pub(crate) fn svg(reports: &[Report]) -> String {
    let most = reports.iter().map(|report| report.readings_per_cpu_second_max).fold(1.0, f64::max);
    let x = |figure: f64| LEFT + WIDE * figure / most;
    let (width, height) = (LEFT + WIDE + RIGHT, TOP + ROW * reports.len() as f64 + 12.0);
    let mut text = String::new();
    let mut line = |content: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{content}");
    };
    line(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">"#
    ));
    line(r#"<rect width="100%" height="100%" fill="white"/>"#.to_owned());
    line(format!(r#"<text x="{LEFT}" y="24" font-weight="bold">readings per CPU-second of the node</text>"#));
    for (number, report) in reports.iter().enumerate() {
        let (y, figure) = (TOP + ROW * number as f64, report.median.readings_per_cpu_second);
        let middle = y + ROW / 2.0;
        let base = middle + 4.0;
        let (least, most) = (x(report.readings_per_cpu_second_min), x(report.readings_per_cpu_second_max));
        line(format!(r#"<text x="{:.0}" y="{base:.0}" text-anchor="end">{}</text>"#, LEFT - 8.0, report.case));
        line(format!(
            r##"<rect x="{LEFT}" y="{:.0}" width="{:.1}" height="{:.0}" fill="#4878a8"/>"##,
            y + 4.0,
            x(figure) - LEFT,
            ROW - 8.0
        ));
        line(format!(r#"<path d="M{least:.1} {middle:.0}H{most:.1}" stroke="black"/>"#));
        line(format!(r#"<text x="{:.0}" y="{base:.0}">{figure:.0}</text>"#, most + 8.0));
    }
    line("</svg>".to_owned());
    text
}
