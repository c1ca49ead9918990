//! Figures and how they are printed.

/// One figure of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) what: String,
    /// The product's own value, in words with its unit.
    pub(crate) value: String,
    /// Its baseline, in words with its unit.
    pub(crate) against: String,
    /// The ratio of the two, where there is one.
    pub(crate) ratio: Option<f64>,
    pub(crate) aim: &'static str,
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The table, for people.
#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
pub(crate) fn print(figures: &[Figure]) {
    println!("| figure | Trainyard | against | ratio | aim |");
    println!("|---|---|---|---|---|");
    for figure in figures {
        let ratio = figure
            .ratio
            .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        println!(
            "| {} | {} | {} | {ratio} | {} |",
            figure.what, figure.value, figure.against, figure.aim
        );
    }
}
