//! One look at a text for all secrets of a call. The look excludes nearly every text, so that few texts are searched in every
//! spelling of every secret.

use crate::credentials::redact::SHORTEST;
use crate::credentials::redact::pieces::spellings;
use crate::credentials::redact::search::known_by;
use crate::credentials::redact::traces::Traces;
use crate::credentials::secret::Secret;

/// Traces of whole secrets, as [`Search`](super::Search) finds these, and of pieces, as [`Pieces`](super::Pieces) finds these.
pub struct Watch {
    whole: Vec<Secret>,
    in_pieces: Vec<Secret>,
    traces: Traces,
}

impl Watch {
    /// Prepares a look for secrets as a whole, and for pieces of secrets.
    pub fn of(whole: Vec<Secret>, in_pieces: Vec<Secret>) -> Watch {
        let searched = whole.iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST);
        let wholly = searched.flat_map(known_by).map(|(text, _)| {
            let all = text.len();
            (text, all)
        });
        let in_part = in_pieces.iter().flat_map(|secret| spellings(secret.expose()));
        let traces = Traces::of(wholly.chain(in_part));
        Watch { whole, in_pieces, traces }
    }

    /// Says whether the look is for these secrets.
    pub fn is_for(&self, whole: &[Secret], in_pieces: &[Secret]) -> bool {
        self.whole == whole && self.in_pieces == in_pieces
    }

    /// Says that a text holds none of the secrets, as a whole, and no piece, in any spelling. The time follows from the
    /// length of the text. If the answer is no, the text may hold one.
    pub fn excludes(&self, text: &[u8]) -> bool {
        !self.traces.may_be_anyhow_in(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "tkQ7~Zp.4vN-secret+token/of=tenant%A&9xLmR2wEuT8";

    fn excludes(secret: &str, text: &str) -> bool {
        let secrets = vec![Secret::new(secret)];
        Watch::of(secrets.clone(), secrets).excludes(text.as_bytes())
    }

    #[test]
    fn an_ordinary_text_is_excluded_and_one_with_a_secret_is_not() {
        let ordinary =
            r#"{"id":"/subscriptions/20ff7fc3-e762-44dd-bd96-b71116dcdc23","say":"a \"token\" of 107 or 116"}"#;
        assert!(excludes(TOKEN, ordinary));
        let numbers: String = TOKEN.bytes().map(|byte| format!("{byte}, ")).collect();
        let letters = TOKEN.bytes().map(char::from).filter(char::is_ascii_alphanumeric);
        for spelled in [TOKEN, &TOKEN[20..36], &numbers, &letters.map(|one| format!("{one}-")).collect::<String>()] {
            assert!(!excludes(TOKEN, &ordinary.replace("token", spelled)), "{spelled}");
        }
    }

    #[test]
    fn a_whole_secret_that_is_too_short_for_pieces_is_seen() {
        assert!(!excludes("short-secret", "the short-secret of a feed"));
        assert!(excludes("short-secret", "the shortest secret of a feed"));
    }

    #[test]
    fn nothing_is_excluded_where_letters_are_escaped_or_a_secret_has_too_few() {
        assert!(!excludes(TOKEN, "a line\\n and another"));
        assert!(!excludes("a-b_c.d~e+f=", "an ordinary text"));
    }
}
