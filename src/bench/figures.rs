//! What was measured: a table for people, one line of JSON for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::histogram::Histogram;

/// One measurement: a label, and figures in the order they are shown.
#[derive(Debug, Default, Clone)]
pub struct Row {
    label: String,
    figures: Vec<(&'static str, Option<f64>)>,
}

impl Row {
    /// A row without figures.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), figures: Vec::new() }
    }

    /// The same under another label.
    pub fn labelled(mut self, label: String) -> Self {
        self.label = label;
        self
    }

    /// Adds a figure. Its unit is the end of its name.
    pub fn add(&mut self, name: &'static str, value: impl Into<Option<f64>>) -> &mut Self {
        self.figures.push((name, value.into().filter(|value| value.is_finite())));
        self
    }

    /// Adds a number of things.
    pub fn count(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.add(name, value as f64)
    }

    /// Adds p50, p99 and p99.9.
    pub fn quantiles(&mut self, histogram: &Histogram) -> &mut Self {
        let ms = |share| histogram.quantile(share).map(|took| took.as_secs_f64() * 1e3);
        self.add("p50_ms", ms(0.5)).add("p99_ms", ms(0.99)).add("p99.9_ms", ms(0.999))
    }
}

/// CPU seconds for a million of something.
pub fn per_million(cpu: Option<Duration>, count: u64) -> Option<f64> {
    cpu.filter(|_| count > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / count as f64)
}

/// Everything that one run has to say.
#[derive(Debug, Default)]
pub struct Report {
    /// The case.
    pub case: String,
    /// The server.
    pub peer: String,
    /// Over what.
    pub transport: &'static str,
    /// What was asked for, in words.
    pub what: String,
    /// What was raised, lifted and arranged.
    pub said: Vec<String>,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// For programs.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(row_json).collect();
        json!({
            "case": self.case, "peer": self.peer, "transport": self.transport, "what": self.what,
            "said": self.said, "rows": rows,
        })
        .to_string()
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out =
            format!("{} · {} over {}: {}\n", self.case, self.peer, self.transport, self.what);
        for said in &self.said {
            out += &format!("  {said}\n");
        }
        // Rows with the same figures stand in one table.
        let mut rows = self.rows.as_slice();
        while let Some(first) = rows.first() {
            let names: Vec<_> = first.figures.iter().map(|(name, _)| *name).collect();
            let same =
                |row: &Row| row.figures.iter().map(|(name, _)| *name).eq(names.iter().copied());
            let count = rows.iter().take_while(|row| same(row)).count();
            let (these, rest) = rows.split_at(count);
            rows = rest;
            out.push('\n');
            out += &aligned(&names, these);
        }
        out
    }
}

fn row_json(row: &Row) -> Value {
    let mut object = Map::new();
    object.insert("label".to_owned(), row.label.as_str().into());
    for (name, value) in &row.figures {
        object.insert((*name).to_owned(), json!(value));
    }
    Value::Object(object)
}

fn aligned(names: &[&str], rows: &[Row]) -> String {
    let head = std::iter::once(String::new()).chain(names.iter().map(|name| (*name).to_owned()));
    let mut lines: Vec<Vec<String>> = vec![head.collect()];
    for row in rows {
        let figures = row.figures.iter().map(|(_, value)| value.map_or("–".to_owned(), number));
        lines.push(std::iter::once(row.label.clone()).chain(figures).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..=names.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            out += &match column {
                0 => format!("  {cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

/// Three digits that matter, and all before the point.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        0.0..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut spaced = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !spaced.ends_with('-') {
            spaced.push('\u{202f}');
        }
        spaced.push(digit);
    }
    spaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_what_matters_of_them() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.1724), "0.172");
        assert_eq!(number(7.126), "7.13");
        assert_eq!(number(1_654_321.4), "1\u{202f}654\u{202f}321");
        assert_eq!(number(-123_456.0), "-123\u{202f}456");
        assert_eq!(number(100.0), "100");
    }

    #[test]
    fn a_figure_that_is_not_known_is_a_dash_and_a_null() {
        let mut row = Row::new("one");
        row.count("deliveries", 5).add("cpu_s_per_million", None).quantiles(&Histogram::default());
        let report = Report { rows: vec![row], ..Report::default() };
        assert!(report.table().contains('–'), "{}", report.table());
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["rows"][0]["deliveries"], 5.0);
        assert_eq!(json["rows"][0]["p50_ms"], Value::Null);
    }

    #[test]
    fn cpu_is_told_for_a_million_deliveries() {
        let half = Some(Duration::from_millis(500));
        assert_eq!(per_million(half, 100_000), Some(5.0));
        assert_eq!((per_million(half, 0), per_million(None, 5)), (None, None));
    }
}
