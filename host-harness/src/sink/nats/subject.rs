//! Subjects of events. A tenant or a feed is one whole token of a subject, whatever its id contains, so that no tenant's
//! events get below the subject of another.

use super::super::{Template, TemplatePart, UnknownPlaceholder};

/// The subjects of a sink's events: a text with the placeholders `{tenant}` and `{feed}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSubject {
    template: Template,
}

/// The reason why a text makes no subjects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The text between braces is neither `{tenant}` nor `{feed}`.
    #[error("found {:?}, expected {{tenant}} or {{feed}} between braces", .0.0)]
    Placeholder(#[from] UnknownPlaceholder),
    /// Nothing stands before, after or between dots.
    #[error("found an empty token, expected characters before, between and after the dots")]
    Empty,
    /// A character that no subject of an event has.
    #[error("found {0:?}, expected a subject without spaces and wildcards")]
    Character(char),
    /// The first token belongs to the server.
    #[error("found {0:?} at the beginning, which belongs to the server, expected a token of your own")]
    System(String),
    /// Two ids in one token, where other ids may make the same token.
    #[error(
        "found {0:?}, expected one of {{tenant}} and {{feed}} in a token: the ids of two tenants could make the same \
         token; write {{tenant}}.{{feed}}"
    )]
    Joined(String),
}

impl NatsSubject {
    /// Parses a text.
    pub fn new(text: &str) -> Result<NatsSubject, SubjectError> {
        let template = Template::new(text)?;
        if let Some(found) =
            text.chars().find(|found| found.is_whitespace() || found.is_control() || "*>".contains(*found))
        {
            return Err(SubjectError::Character(found));
        }
        for (index, token) in text.split('.').enumerate() {
            match token {
                "" => return Err(SubjectError::Empty),
                _ if token.matches('{').count() > 1 => return Err(SubjectError::Joined(token.to_owned())),
                _ if index == 0 && (token.starts_with('$') || token.starts_with("_INBOX")) => {
                    return Err(SubjectError::System(token.to_owned()));
                }
                _ => {}
            }
        }
        Ok(NatsSubject { template })
    }

    /// The text as written, in which placeholders are known.
    pub(in super::super) fn template(&self) -> &Template {
        &self.template
    }

    /// Returns the subject of a tenant's feed.
    pub fn filled(&self, tenant: &str, feed: &str) -> String {
        self.template.filled(&token(tenant), &token(feed))
    }

    /// Returns the subject with a wildcard in place of each token that has an id.
    pub fn pattern(&self) -> String {
        let starred = self.template.parts.iter().map(|part| match part {
            TemplatePart::Text(text) => text.clone(),
            TemplatePart::Tenant | TemplatePart::Feed => "*".to_owned(),
        });
        let starred: String = starred.collect();
        starred.split('.').map(|token| if token.contains('*') { "*" } else { token }).collect::<Vec<_>>().join(".")
    }
}

/// Returns an id as a token: a dot would begin another one. No id has the character `%`, so that different ids stay
/// different.
fn token(id: &str) -> String {
    id.replace('.', "%2E")
}

/// Says whether a stream with this filter takes the messages of a subject, or of some subjects of a pattern with `*`.
pub fn takes(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || token == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_token_and_different_ids_are_different_tokens() {
        let subject = NatsSubject::new("findings.{tenant}.f-{feed}").unwrap();
        assert_eq!(subject.filled("contoso", "prod"), "findings.contoso.f-prod");
        assert_eq!(subject.filled("contoso.prod", "x"), "findings.contoso%2Eprod.f-x");
        assert_eq!(subject.pattern(), "findings.*.*");
        // Who may read the subjects of `contoso` reads none of `contoso.prod`.
        assert!(takes("findings.contoso.>", &subject.filled("contoso", "x")));
        assert!(!takes("findings.contoso.>", &subject.filled("contoso.prod", "x")));
        assert_ne!(subject.filled("a.b", "c"), subject.filled("a", "b.c"));
        assert_eq!(NatsSubject::new("findings").unwrap().pattern(), "findings");
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for (text, expected) in [
            ("", SubjectError::Empty),
            ("a..b", SubjectError::Empty),
            (".{tenant}", SubjectError::Empty),
            ("{tenant}.", SubjectError::Empty),
            ("a.*", SubjectError::Character('*')),
            ("a.>", SubjectError::Character('>')),
            ("a b", SubjectError::Character(' ')),
            ("a\r\nPUB", SubjectError::Character('\r')),
            ("$JS.API.x", SubjectError::System("$JS".to_owned())),
            ("_INBOX.x", SubjectError::System("_INBOX".to_owned())),
            ("a.{tenant}-{feed}", SubjectError::Joined("{tenant}-{feed}".to_owned())),
            ("a.{scope}", SubjectError::Placeholder(UnknownPlaceholder("{scope}".to_owned()))),
        ] {
            assert_eq!(NatsSubject::new(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_filter_takes_the_subjects_below_it() {
        for (filter, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a", "b", false),
            ("a.b", "a.*", true),
            ("a.b.>", "a.*", false),
            ("b.>", "a.*", false),
        ] {
            assert_eq!(takes(filter, subject), expected, "{filter} {subject}");
        }
    }
}
