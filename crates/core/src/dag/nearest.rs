//! What somebody may have meant who wrote a name that does not exist.

/// The candidate nearest to what was written, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = written.chars().count();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = candidate.chars().count();
            let tolerated = 1.max(other.min(length) / 3);
            // Cheap, and sorts out most of them: no fewer edits than the lengths differ by.
            if other.abs_diff(length) > tolerated {
                return None;
            }
            let distance = strsim::damerau_levenshtein(written, candidate);
            (distance <= tolerated).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let names = ["train", "extract", "evaluate"];
        assert_eq!(nearest("trian", names), Some("train"));
        assert_eq!(nearest("evalaute", names), Some("evaluate"));
        assert_eq!(nearest("report", names), None);
        assert_eq!(nearest("x", ["y"]), Some("y"));
        assert_eq!(nearest("x", ["yes"]), None);
    }
}
