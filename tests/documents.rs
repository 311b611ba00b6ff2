//! Documents that are made from the code: `UPDATE_EXPECT=1` rewrites them.

use std::fmt::Write;

use crate::support::{plugin, root};

#[tokio::test]
async fn the_table_of_failures_is_the_plugins_own() {
    let description = plugin().describe().await.0.unwrap();
    let mut table =
        "# Failures and notices\n\nMade from the plugin's own table; every failure and notice carries one of \
                     these codes.\n\n| code | cause | fix |\n|---|---|---|\n"
            .to_owned();
    for row in &description.diagnoses {
        writeln!(table, "| `{}` | {} | {} |", row.code, row.cause, row.fix.replace('|', "\\|")).unwrap();
    }
    let file = root().join("docs/failures.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), table, "UPDATE_EXPECT=1 rewrites {}", file.display());
}
