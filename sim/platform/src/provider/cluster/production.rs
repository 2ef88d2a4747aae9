//! Recognises names that look like production.

/// A name that contains one of these as a whole word looks like production.
const PRODUCTION: [&str; 4] = ["prod", "prd", "production", "live"];

/// Words that negate the next one, as in `non-prod` and `pre-production`.
const NOT: [&str; 2] = ["non", "pre"];

/// Whether a name has a word of production. Words are separated by anything but letters, and begin at
/// a capital letter after a small one: `eu-prod1`, `acme_PROD` and `euProd` look like production,
/// `reproduce`, `preproduction` and `non-prod` do not.
pub(super) fn looks_like_production(name: &str) -> bool {
    let words = words(name);
    words.iter().enumerate().any(|(n, word)| {
        let negated = n.checked_sub(1).is_some_and(|before| NOT.contains(&words[before].as_str()));
        PRODUCTION.contains(&word.as_str()) && !negated
    })
}

/// The words of a name, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        let begins = !letter.is_alphabetic() || letter.is_uppercase() && before.is_lowercase();
        match words.last_mut() {
            Some(word) if !begins => word.extend(letter.to_lowercase()),
            _ => words.push(letter.to_lowercase().filter(|one| one.is_alphabetic()).collect()),
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_production_as_a_whole_word_looks_like_production() {
        for name in [
            "gke_acme_eu-PROD-1",
            "https://api.prd.acme.example",
            "vault.production.example",
            "db-prod01.example",
            "euProd",
            "prod",
            "live.acme.example",
            "admin@prod",
            // Norway.
            "no-prod-1",
        ] {
            assert!(looks_like_production(name), "{name}");
        }
    }

    #[test]
    fn a_part_of_a_word_and_a_negated_word_do_not_look_like_production() {
        for name in [
            "kind-alertstorm",
            "https://127.0.0.1:6443",
            "preproduction-like",
            "reproduce",
            "products",
            "delivery.acme.example",
            "olive",
            "non-prod",
            "nonprod",
            "pre-production",
            "",
        ] {
            assert!(!looks_like_production(name), "{name}");
        }
    }
}
