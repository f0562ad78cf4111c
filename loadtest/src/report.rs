//! The results of a run as a person reads them: a table and a plot for each scenario.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

/// The results of one scenario.
pub(crate) struct Section {
    /// Also the file name of its plot.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// How it was measured.
    pub(crate) how: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What the bars of the plot mean, and each bar.
    pub(crate) plot: (&'static str, Vec<(String, f64)>),
    /// What is worse than a baseline allows, one line each.
    pub(crate) worse: Vec<String>,
}

impl Section {
    /// The table in Markdown.
    pub(crate) fn table(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<String> = self.columns.iter().map(|&column| column.to_owned()).collect();
        let rule = vec!["---".to_owned(); head.len()];
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{}{rows}", line(&head), line(&rule))
    }
}

/// Writes `report.md` and the plots into a folder.
pub(crate) fn write(dir: &Path, machine: &str, sections: &[Section]) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    let mut text = format!("# What was measured\n\n{machine}\n");
    for section in sections {
        let Section { name, title, how, .. } = section;
        write!(text, "\n## {title}\n\n{how}\n\n{}\n![{title}]({name}.svg)\n", section.table())?;
        plot(&dir.join(format!("{name}.svg")), section)?;
    }
    fs::write(dir.join("report.md"), text)?;
    Ok(())
}

const WIDTH: u32 = 760;
const BAR: u32 = 26;
const NAMES: i32 = 290;

/// Horizontal bars, one below the other, each with its figure.
fn plot(path: &Path, section: &Section) -> anyhow::Result<()> {
    let (unit, bars) = &section.plot;
    let height = BAR * u32::try_from(bars.len())? + 40;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = bars.iter().map(|(_, figure)| *figure).fold(f64::MIN_POSITIVE, f64::max);
    let style = TextStyle::from(("sans-serif", 13).into_font()).color(&BLACK);
    area.draw(&Text::new(format!("{} ({unit})", section.title), (8, 8), style.clone()))?;
    let (mut top, bar) = (34, i32::try_from(BAR)?);
    for (name, figure) in bars {
        #[expect(clippy::cast_possible_truncation, reason = "a share of the width")]
        let long = (figure / most * f64::from(i32::try_from(WIDTH)? - NAMES - 90)) as i32;
        area.draw(&Text::new(name.clone(), (8, top + 5), style.clone()))?;
        let colour = if name.starts_with("Tollgate") { RGBColor(31, 119, 180) } else { RGBColor(170, 170, 170) };
        area.draw(&Rectangle::new([(NAMES, top), (NAMES + long.max(1), top + bar - 8)], colour.filled()))?;
        area.draw(&Text::new(figures(*figure), (NAMES + long + 6, top + 4), style.clone()))?;
        top += bar;
    }
    area.present()?;
    Ok(())
}

/// The digest in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rounds to three significant figures.
pub(crate) fn figures(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}
