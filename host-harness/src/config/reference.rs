//! Values behind `{ env = … }` and `{ file = … }`.

use source_host::credentials::secret::{self, Secret, Zeroizing};
use source_host::credentials::spelling::{self, Trimmed};
use source_host::text::Unread;

use super::reader::{ConfigReader, Node, Table};
use super::{Environment, SeenFile};
use crate::files;

pub(super) const REFERENCE: &[&str] = &["env", "file", "plain"];

/// Reads a secret of the host itself: `{ env = … }` or `{ file = … }`, but never the value in the configuration.
pub(super) fn secret(
    reader: &mut ConfigReader,
    node: &Node<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Secret> {
    let Some(mut table) = node.as_table() else {
        reader.problem(node, "found the value itself, expected { env = \"…\" } or { file = \"…\" }".to_owned());
        return None;
    };
    reader.known(&mut table, &["env", "file"]);
    match referenced(reader, node, &table, files, environment)? {
        Ok(value) => {
            warn_of_mode(reader, node, &table);
            let Trimmed { text, remark } = spelling::trimmed(&value);
            remark.into_iter().for_each(|remark| reader.warning(node, remark));
            Some(Secret::new(text))
        }
        Err(message) => {
            reader.problem(node, message);
            None
        }
    }
}

/// Reads a token, which goes into a header unchanged; its oddities are reported.
pub(super) fn token(
    reader: &mut ConfigReader,
    node: &Node<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Secret> {
    let token = secret(reader, node, files, environment)?;
    for oddity in spelling::oddities(token.expose()) {
        reader.warning(node, oddity);
    }
    if http::HeaderValue::from_str(token.expose()).is_err() {
        reader.problem(node, "has characters that no header may have, expected the token alone".to_owned());
        return None;
    }
    Some(token)
}

/// Warns of a secret's file that others may read or write.
pub(super) fn warn_of_mode(reader: &mut ConfigReader, node: &Node<'_>, reference: &Table<'_>) {
    let path = reference.child("file").and_then(|file| reader.path(&file, "the path of a file"));
    if let Some(words) = path.and_then(|path| files::too_open(&path)) {
        reader.warning(node, words);
    }
}

/// Returns the value of `{ env = … }` or `{ file = … }`, or the reason why it cannot be read now; `None` if the
/// reference itself is wrong, which is reported.
pub(super) fn referenced(
    reader: &mut ConfigReader,
    node: &Node<'_>,
    reference: &Table<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Result<Zeroizing<String>, String>> {
    match (reference.child("env"), reference.child("file")) {
        (Some(variable), None) => {
            let name = reader.text(&variable, "the name of a variable of the environment")?;
            Some(match environment(&name) {
                None => Err(no_variable(&name)),
                Some(value) => {
                    text_of(&name, &value).and_then(|value| match spelling::trimmed(&value).text.is_empty() {
                        true => Err(format!(
                            "found nothing in the variable {name} of the environment, expected the secret there"
                        )),
                        false => Ok(Zeroizing::new(value)),
                    })
                }
            })
        }
        (None, Some(file)) => {
            let path = reader.path(&file, "the path of a file")?;
            let named = file.as_text().unwrap_or_default();
            // Read first, so that a file that changes while it is read counts as changed.
            files.push(SeenFile::now(path.clone()));
            Some(match secret::read(&path) {
                Err(Unread::Io(error)) if spelling::may_be_secret(&named) => Err(format!(
                    "cannot read the file that `file` names: {error}; a secret itself does not belong there"
                )),
                Err(error) => Err(error.of(&path)),
                Ok(value) if spelling::trimmed(&value).text.is_empty() => {
                    Err(format!("found nothing in {}, expected the secret there", path.display()))
                }
                Ok(value) => Ok(Zeroizing::new(spelling::without_line_end(&value).to_owned())),
            })
        }
        (Some(_), Some(_)) => {
            reader.problem(node, "found both `env` and `file`, expected one of them".to_owned());
            None
        }
        (None, None) if reader.is_unsure(reference) => None,
        (None, None) => {
            reader.problem(node, "found neither `env` nor `file`, expected one of them".to_owned());
            None
        }
    }
}

/// The message about a variable that is not set. If the user wrote the secret itself in place of the name, the message
/// does not show it.
fn no_variable(name: &str) -> String {
    let bare = name.trim_matches(['$', '{', '}', '%', '!']);
    let bare = ["env:", "ENV:", "env."].iter().find_map(|begin| bare.strip_prefix(begin)).unwrap_or(bare);
    if name.trim().is_empty() {
        return "found nothing, expected the name of a variable".to_owned();
    }
    if !spelling::is_variable(bare) || spelling::may_be_secret(bare) {
        return "found something that is not the name of a variable, expected a name such as CONTOSO_SECRET; a secret itself does \
                not belong there"
            .to_owned();
    }
    match bare == name {
        true => format!("found no variable {name} in the environment, expected the secret there"),
        false => format!("found no variable {name} in the environment, expected the name alone, {bare}"),
    }
}

/// Returns the value of a variable as text.
pub(super) fn text_of(name: &str, value: &str) -> Result<String, String> {
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err(format!(
            "found a value that is not UTF-8 in the variable {name}, expected UTF-8; if it is in the encoding of \
             Windows: export {name}=\"$(printf %s \"${name}\" | iconv -f WINDOWS-1252 -t UTF-8)\""
        ));
    }
    Ok(value.to_owned())
}
