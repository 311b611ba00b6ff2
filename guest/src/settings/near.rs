//! Names that resemble another, for messages about misspelled names. The plugin and the collector share no code: both
//! have a copy of this file, and a test of the workspace checks that the copies are identical.

/// Returns the name that a misspelled one means: equal except for case, punctuation and a few letters; `None` if no
/// name is that near.
pub fn name<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |text: &str| text.to_lowercase().replace(|character: char| !character.is_alphanumeric(), "");
    let wanted = bare(text);
    let distance = |known: &str| strsim::osa_distance(&bare(known), &wanted);
    // With two letters more, `tenant` is a name of its own: `tenant_id`.
    let near = |known: &&str| {
        distance(known)
            <= match known.len() {
                0..=2 => 0,
                3..=7 => 1,
                _ => 2,
            }
    };
    names.filter(near).min_by_key(|known| distance(known))
}

/// Returns the name that another may mean: at most a third of its letters differ, or two if the first letter is the
/// same; or it contains the words of the other. `None` if no name is that near, because a wrong guess would mislead.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let distance = |known: &str| strsim::osa_distance(known, &lower);
    let begins_alike = |known: &str| lower.len() > 2 && known.chars().next() == lower.chars().next();
    let most = |known: &str| (lower.chars().count() / 3).max(if begins_alike(known) { 2 } else { 0 });
    let near = names.clone().filter(|known| distance(known) <= most(known));
    let words = |text: &str| text.split(['.', '_', '-']).map(str::to_owned).collect::<Vec<_>>();
    let written = words(&lower);
    let has_words = |known: &&str| written.iter().all(|word| word.len() > 2 && words(known).contains(word));
    near.min_by_key(|known| distance(known)).or_else(|| names.filter(has_words).min_by_key(|known| known.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_what_is_a_few_letters_off_and_nothing_else() {
        let names = [
            "env",
            "file",
            "plain",
            "sinks",
            "ca_file",
            "interval",
            "id",
            "tenant",
            "contoso-prod-scores",
            "client_secret",
            "client_id",
            "token_url",
            "subscription_id",
        ];
        for (text, meant, near) in [
            ("evn", Some("env"), Some("env")),
            ("Env", Some("env"), Some("env")),
            ("en", Some("env"), None),
            ("sink", Some("sinks"), Some("sinks")),
            ("ca-file", Some("ca_file"), Some("ca_file")),
            ("cafile", Some("ca_file"), Some("ca_file")),
            ("intervall", Some("interval"), Some("interval")),
            ("intreavl", Some("interval"), Some("interval")),
            ("ID", Some("id"), Some("id")),
            ("tenant_id", None, Some("tenant")),
            ("Contoso.Prod.Scores", Some("contoso-prod-scores"), Some("contoso-prod-scores")),
            ("Prod-Contoso", None, Some("contoso-prod-scores")),
            ("client_secert", Some("client_secret"), Some("client_secret")),
            ("CLIENT.SECRET", Some("client_secret"), Some("client_secret")),
            ("Subscription", Some("subscription_id"), Some("subscription_id")),
            ("secret", None, Some("client_secret")),
            ("tokenurls", Some("token_url"), Some("token_url")),
            ("in", None, None),
            ("colour", None, None),
            ("retries", None, None),
            ("x", None, None),
            ("", None, None),
        ] {
            assert_eq!(name(text, names.into_iter()), meant, "{text}");
            assert_eq!(nearest(text, names.into_iter()), near, "{text}");
        }
    }
}
