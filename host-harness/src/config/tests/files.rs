//! The files of a configuration: one, or those of a folder.

use super::*;

#[test]
fn a_folder_is_one_configuration() {
    let defaults = "[feed_defaults]\ninterval = \"2h\"\n[collector]\nstate = \"here.db\"\n";
    let config = read_folder(&[
        ("a.toml", &feed("a", "")),
        ("main.toml", &format!("{defaults}{SINKS}")),
        ("notes.txt", "no TOML"),
        (".hidden.toml", "no TOML"),
    ]);
    let config = config.unwrap();
    assert_eq!(config.feeds[0].interval.as_ref().map(|interval| interval.time), Some(Duration::from_secs(7_200)));
    assert_eq!(config.sinks.len(), 2);
    assert!(config.collector.state.file().unwrap().ends_with("here.db"));
}

#[test]
fn one_bad_file_of_a_folder_is_named_and_hides_nothing() {
    let problems = read_folder(&[
        ("a.toml", &feed("a", "sinks = [\"lake\"]\nintervall = \"1h\"")),
        ("b.toml", "[[sink]\n"),
        ("c.toml", &feed("a", "interval = 5")),
    ])
    .unwrap_err();
    for (problem, expected) in problems.iter().zip([
        "b.toml:1: is not TOML",
        "a.toml:5: feed a: intervall: unknown key; the nearest is `interval`",
        "a.toml:2, expected ids that differ",
        "c.toml:4: feed[0].interval: found 5, expected a duration",
    ]) {
        assert!(problem.contains(expected), "{expected} in {problem}");
    }
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn a_table_of_the_whole_stands_in_one_file() {
    let problems = read_folder(&[
        ("a.toml", &format!("[collector]\nstate = \"a.db\"\n{}", feed("a", ""))),
        ("b.toml", "[collector]\nstate = \"b.db\"\n"),
    ])
    .unwrap_err();
    assert!(
        problems[0].contains("b.toml:1: collector: is also at ") && problems[0].contains("a.toml:1"),
        "{problems:?}"
    );
    assert!(read_folder(&[]).unwrap_err()[0].contains("found no file *.toml"));
}

#[test]
fn files_of_another_program_in_a_folder_are_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    for name in ["a.toml", "b.toml", "c.toml"] {
        write(name, "[package]\nname = \"x\"\n[dependencies]\n");
    }
    let told =
        || load(folder.path(), None, &|_| None).problems.iter().map(ConfigProblem::to_string).collect::<Vec<_>>();
    let expected = format!(
        "{}: has no table of a configuration, nor have b.toml, c.toml, ",
        folder.path().join("a.toml").display()
    );
    assert!(matches!(&told()[..], [one] if one.starts_with(&expected)), "{:?}", told());
    write("feeds.toml", &feed("a", ""));
    assert!(matches!(&told()[..], [one] if one.starts_with(&expected)), "{:?}", told());
}

#[test]
fn one_file_under_two_names_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("real")).unwrap();
    std::os::unix::fs::symlink(at("real"), at("folder")).unwrap();
    std::fs::write(at("a.ndjson"), "").unwrap();
    std::fs::hard_link(at("a.ndjson"), at("hard.ndjson")).unwrap();
    std::os::unix::fs::symlink(at("a.ndjson"), at("soft.ndjson")).unwrap();
    std::os::unix::fs::symlink("later.ndjson", at("early.ndjson")).unwrap();
    std::os::unix::fs::symlink("round.ndjson", at("round.ndjson")).unwrap();
    let sink = |id: &str, path: &str, more: &str| {
        format!("[[sink]]\nid = \"{id}\"\ntype = \"file\"\npath = \"{}\"\n{more}\n", at(path).display())
    };
    for (one, other, is_refused) in [
        ("a.ndjson", "hard.ndjson", true),
        ("a.ndjson", "soft.ndjson", true),
        ("later.ndjson", "early.ndjson", true),
        ("later.ndjson", "round.ndjson", false),
        ("real/x.ndjson", "folder/x.ndjson", true),
        ("real/x.ndjson", "folder/y.ndjson", false),
    ] {
        let text = format!("{}{}{}", sink("one", one, ""), sink("two", other, ""), feed("a", ""));
        let problems = read(&text, None).err().unwrap_or_default();
        let is_told = problems.len() == 1 && problems[0].contains("expected a file of their own");
        assert_eq!(is_told, is_refused, "{one} {other}: {problems:?}");
        let letters = format!("dead_letters = \"{}\"", at(other).display());
        let problems =
            read(&format!("{}{}", sink("one", one, &letters), feed("a", "")), None).err().unwrap_or_default();
        // A link with that name is refused, whatever its target.
        let is_link = std::fs::symlink_metadata(at(other)).is_ok_and(|met| met.is_symlink());
        let expected = if is_link { "a symbolic link to " } else { "expected a file of their own" };
        let is_told = problems.len() == 1 && problems[0].contains(expected);
        assert_eq!(is_told, is_refused || is_link, "{one} {other}: {problems:?}");
    }
}

#[test]
fn what_is_no_toml_names_its_line() {
    let problems = read("a = \n", None).unwrap_err();
    assert!(problems[0].starts_with("c.toml:1: is not TOML"), "{problems:?}");
}

#[test]
fn a_file_in_another_encoding_is_named_with_the_command_that_converts_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = |text: &[u8]| {
        let file = folder.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        told(load(&file, None, &|_| None)).map_err(|problems| problems.join("\n"))
    };
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let text = feed("a", "").replace("client_key = \"k\"", "client_secret = { file = \"secret\" }");
    std::fs::write(folder.path().join("secret"), "\u{feff}a-secret-of-tests\r\n").unwrap();
    let read = config(format!("\u{feff}{text}").as_bytes()).unwrap();
    assert_eq!(read.feeds[0].settings.secrets().next().unwrap().expose(), "a-secret-of-tests");
    let problems = config(&utf16(&format!("\u{feff}{text}"))).unwrap_err();
    assert!(problems.contains("c.toml: is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8 "), "{problems}");
    let problems = config(b"# Schl\xfcssel\n").unwrap_err();
    assert!(
        problems.contains("is not UTF-8 from line 1 on") && problems.contains("iconv -f WINDOWS-1252"),
        "{problems}"
    );
    std::fs::write(folder.path().join("secret"), utf16("a-secret-of-tests")).unwrap();
    let problems = config(text.as_bytes()).unwrap_err();
    assert!(problems.contains("secret is UTF-16LE, expected UTF-8: iconv -f UTF-16LE"), "{problems}");
    assert!(!problems.contains("a-secret"), "{problems}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let problems = read(&format!("[network]\nca_file = \"no-such.pem\"\n{}", feed("a", "")), None).unwrap_err();
    assert!(problems[0].starts_with("c.toml:2: network.ca_file: cannot read no-such.pem"), "{problems:?}");
    let folder = "[[sink]]\nid = \"s\"\ntype = \"file\"\npath = \"x\"\n".to_owned()
        + &feed("a", "client_secret = { file = \".\" }");
    let folder =
        folder.replace("client_secret", "settings.client_secret").replace("[feed.settings]\nclient_key = \"k\"\n", "");
    let problems = read(&folder, None).unwrap_err();
    assert!(
        problems[0].contains("client_secret: cannot read .: found a folder, expected a regular file"),
        "{problems:?}"
    );
    assert_eq!(problems.len(), 1, "{problems:?}");
    let missing = told(load(Path::new("no-such.toml"), None, &|_| None)).unwrap_err();
    assert!(missing[0].starts_with("no-such.toml: cannot be read"), "{missing:?}");
}
