//! "Did you mean": the nearest of some known words.

use crate::model::distance;

/// A hint that names the nearest known word, or all of them when they are few.
pub(super) fn hint<'k>(word: &str, known: impl Iterator<Item = &'k str> + Clone) -> Option<String> {
    let nearest = known.clone().map(|k| (distance(word, k), k)).min();
    match nearest {
        Some((far, nearest)) if far <= 1 + word.len() / 4 => Some(format!("did you mean `{nearest}`?")),
        Some(_) => Some(format!("one of: {}", known.collect::<Vec<_>>().join(", "))),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered() {
        let known = ["first_name", "last_name", "name"];
        assert_eq!(hint("frist_name", known.into_iter()).unwrap(), "did you mean `first_name`?");
        assert_eq!(hint("zzz", known.into_iter()).unwrap(), "one of: first_name, last_name, name");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
