//! "Did you mean …": the known word that is nearest to a mistyped one.

/// The candidate that is a small slip away from `word`, if there is one.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment). Only the first 64 letters
/// count: both words are names, and a hostile file must not cost time.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let width = b.len() + 1;
    let mut rows = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let delete = rows[(i - 1) * width + j] + 1;
                let insert = rows[i * width + j - 1] + 1;
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swap = if swapped { rows[(i - 2) * width + j - 2] + 1 } else { usize::MAX };
                replace.min(delete).min(insert).min(swap)
            };
        }
    }
    rows[rows.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_slip_finds_its_word_and_a_stranger_finds_none() {
        let words = ["name", "secret_file", "host", "port", "fingerprint"];
        assert_eq!(nearest("nmae", words), Some("name"));
        assert_eq!(nearest("secretfile", words), Some("secret_file"));
        assert_eq!(nearest("prot", words), Some("port"));
        assert_eq!(nearest("fingerprnt", words), Some("fingerprint"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"x".repeat(100_000), words), None);
    }
}
