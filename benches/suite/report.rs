//! Figures as a page of Markdown: each a median, with the least and the most beside it.

use std::collections::BTreeMap;

/// Several measurements of the same.
#[derive(Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        let mut series = Self::default();
        figures.into_iter().for_each(|figure| series.add(figure));
        series
    }
}

impl Series {
    pub(crate) fn add(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_unstable_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// The median, and from where to where they go.
    pub(crate) fn show(&self, digits: usize) -> String {
        let (least, most) = (self.0[0], self.0[self.0.len() - 1]);
        format!("{:.digits$} ({least:.digits$} to {most:.digits$})", self.median())
    }
}

/// Of each round's pair, how many times the other one.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Series {
    ours.iter().zip(theirs).map(|(our, their)| our / their).collect()
}

/// A table, with its heading.
pub(crate) struct Table {
    text: String,
    columns: usize,
}

impl Table {
    pub(crate) fn new(heading: &str, columns: &[&str]) -> Self {
        let rule = columns.iter().skip(1).map(|_| "---:|").collect::<String>();
        let text = format!("\n## {heading}\n\n| {} |\n|---|{rule}\n", columns.join(" | "));
        Self { text, columns: columns.len() }
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        assert_eq!(cells.len(), self.columns, "{cells:?}");
        self.text.extend(["| ", &cells.join(" | "), " |\n"]);
    }

    pub(crate) fn print(&self) {
        println!("{}", self.text.trim_end());
    }
}

/// The figures of each contender, round by round.
pub(crate) type Rounds = BTreeMap<String, Vec<f64>>;
