//! Making and updating the tables, and databases that cannot be used.

use std::path::Path;

use host_harness::store::postgres::address::{self, ServerAddress};
use host_harness::store::postgres::{PostgresStore, schema};
use host_harness::store::{Store, StoreErrorKind};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use source_host::credentials::certificates::{self, Authorities};
use source_host::credentials::client_certificate::ClientCertificate;

use super::{new_on, open};
use crate::support::postgres::{SUPERUSER, Server};

async fn refused(url: &str) -> (StoreErrorKind, String) {
    match open(url).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => (error.what.clone(), error.to_string()),
    }
}

#[tokio::test]
async fn collectors_that_start_at_once_make_the_tables_once() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let opened = futures_util::future::join_all((0..6).map(|_| open(&url))).await;
    let mut salts = Vec::new();
    for store in opened {
        salts.push(store.unwrap().salt().await.unwrap());
    }
    salts.dedup();
    assert_eq!(salts.len(), 1);
    assert_eq!(salts[0].len(), 32);
    assert_eq!(open(&url).await.unwrap().salt().await.unwrap(), salts[0]);
}

#[tokio::test]
async fn the_schema_of_another_program_is_left_alone() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let superuser = server.superuser(&database).await;
    superuser.batch_execute("CREATE SCHEMA host_harness; CREATE TABLE host_harness.notes (text text)").await.unwrap();
    let (_, text) = refused(&url).await;
    assert!(text.contains("belongs to another program"), "{text}");
    assert!(text.contains(&format!("/{database}: the schema host_harness")), "{text}");
}

#[tokio::test]
async fn a_later_schema_is_used_if_it_is_one_step_ahead() {
    let server = Server::shared();
    let shared = new_on(server).await;
    let superuser = server.superuser(&shared.database).await;
    let step = |ahead: u32| format!("INSERT INTO host_harness.schema_step VALUES ({})", schema::KNOWN + ahead);
    superuser.batch_execute(&step(1)).await.unwrap();
    assert!(open(&shared.url).await.is_ok());
    superuser.batch_execute(&step(2)).await.unwrap();
    let (fault, _) = refused(&shared.url).await;
    assert_eq!(fault, StoreErrorKind::Newer { found: schema::KNOWN + 2, known: schema::KNOWN + 1 });
}

#[tokio::test]
async fn a_role_with_the_least_rights_is_enough_and_a_missing_right_is_named() {
    let server = Server::shared();
    let database = server.database().await;
    let superuser = server.superuser(&database).await;
    let role = format!("least_{database}");
    superuser.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let url = server.url(&role, &database);
    let (_, text) = refused(&url).await;
    let run = format!("run: host-harness schema --role {role} | psql -v ON_ERROR_STOP=1 -d {database}");
    assert!(text.contains("permission denied for database") && text.ends_with(&run), "{text}");
    // The owner makes the tables.
    let owner = server.superuser(&database).await;
    owner.batch_execute(&schema::script()).await.unwrap();
    let (_, text) = refused(&url).await;
    assert!(text.ends_with(&run), "{text}");
    owner.batch_execute(&schema::grants(&role)).await.unwrap();
    let store = std::sync::Arc::new(open(&url).await.unwrap());
    let leases = super::all(&store, "one").await;
    let shared = super::Shared { store, leases, url, database };
    super::operations::everything(&shared).await;
    let client = server.superuser(&shared.database).await;
    client.batch_execute(&format!("SET ROLE {role}; SET search_path = host_harness")).await.unwrap();
    for statement in ["DROP TABLE scope", "DELETE FROM shard", "UPDATE salt SET value = ''", "CREATE TABLE x (y int)"] {
        let error = client.batch_execute(statement).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{statement}");
    }
    owner.batch_execute("DELETE FROM host_harness.schema_step").await.unwrap();
    let (_, text) = refused(&shared.url).await;
    assert!(text.contains("permission denied for schema") && text.ends_with(&run), "{text}");
    owner.batch_execute(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", shared.database)).await.unwrap();
    let (_, text) = refused(&shared.url).await;
    let grant = format!("run: GRANT CONNECT ON DATABASE \"{}\" TO \"{role}\"", shared.database);
    assert!(text.ends_with(&grant), "{text}");
}

#[tokio::test]
async fn a_backup_that_was_restored_over_another_state_is_refused_and_the_documented_restore_is_not() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let salt = open(&url).await.unwrap().salt().await.unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = server.client(program).args(["-d", &url]).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let dump = server.folder.join(format!("{database}.dump"));
    let dump = dump.to_str().unwrap();
    let (is_done, said) = run("pg_dump", &["--schema=host_harness", "--format=custom", "--file", dump]);
    assert!(is_done, "{said}");
    run("pg_restore", &[dump]);
    let (_, text) = refused(&url).await;
    assert!(text.contains("found 2 rows in the table host_harness.salt, expected 1: a backup was restored"), "{text}");
    let (is_done, said) = run("psql", &["-v", "ON_ERROR_STOP=1", "-c", "DROP SCHEMA host_harness CASCADE"]);
    assert!(is_done, "{said}");
    let (is_done, said) = run("pg_restore", &["--exit-on-error", "--single-transaction", dump]);
    assert!(is_done, "{said}");
    assert_eq!(open(&url).await.unwrap().salt().await.unwrap(), salt);
}

#[tokio::test]
async fn a_database_whose_encoding_lacks_characters_is_refused_with_the_statement_that_makes_another() {
    let server = Server::shared();
    let owner = server.database().await;
    let superuser = server.superuser("postgres").await;
    for (encoding, is_taken) in [("LATIN1", false), ("SQL_ASCII", true), ("UTF8", true)] {
        let name = format!("{owner}_{}", encoding.to_lowercase());
        let made = format!("CREATE DATABASE {name} OWNER {owner} ENCODING '{encoding}' TEMPLATE template0");
        superuser.batch_execute(&made).await.unwrap();
        let url = server.url(&owner, &name);
        if is_taken {
            let store = open(&url).await.unwrap();
            let leases = super::all(&store, "one").await;
            let lease = leases[usize::from(host_harness::store::shards::shard_of("Łódź", 256))];
            store.commit(std::sync::Arc::new(super::poll(lease, "Łódź", "feed", "Łódź", &["x"]))).await.unwrap();
            assert_eq!(store.scopes(&leases).await.unwrap()[0].tenant, "Łódź");
            continue;
        }
        let (_, text) = refused(&url).await;
        assert!(text.contains(&format!("found the encoding LATIN1 of the database {name}")), "{text}");
        let (_, fix) = text.split_once("let a superuser make another database: ").unwrap();
        assert!(fix.starts_with(&format!("CREATE DATABASE … OWNER \"{owner}\"")), "{fix}");
        superuser.batch_execute(&fix.replace('…', &format!("{owner}_other"))).await.unwrap();
        assert!(open(&server.url(&owner, &format!("{owner}_other"))).await.is_ok());
    }
}

#[tokio::test]
async fn a_database_that_is_missing_and_a_server_that_is_away_are_named() {
    let server = Server::shared();
    let (_, text) = refused(&server.url(SUPERUSER, "nowhere")).await;
    assert!(text.contains(&format!("127.0.0.1:{} has no database nowhere", server.port)), "{text}");
    assert!(
        text.ends_with("CREATE DATABASE \"nowhere\" OWNER \"super\" ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"),
        "{text}"
    );
    let (_, text) = refused("postgres://me@127.0.0.1:1,%2Fno-such-folder/state").await;
    assert!(text.contains("no server can be used: 127.0.0.1:1 cannot be reached"), "{text}");
    assert!(text.contains("; /no-such-folder cannot be reached"), "{text}");
}

#[tokio::test]
async fn the_host_that_takes_writes_is_found_among_several() {
    let server = Server::shared();
    let database = server.database().await;
    let url = format!("postgres://{database}@127.0.0.1:1,127.0.0.1:{}/{database}", server.port);
    assert!(open(&url).await.is_ok());
    let superuser = server.superuser("postgres").await;
    superuser.batch_execute(&format!("ALTER ROLE {database} SET default_transaction_read_only = on")).await.unwrap();
    let (_, text) = refused(&url).await;
    assert!(text.contains(&format!("found 127.0.0.1:{} read-only, as a standby is", server.port)), "{text}");
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_shown() {
    let server = Server::start("fsync = off\npassword_encryption = 'scram-sha-256'\n");
    let database = server.database().await;
    let superuser = server.superuser("postgres").await;
    superuser.batch_execute(&format!("ALTER ROLE {database} PASSWORD 'hunter2'")).await.unwrap();
    let rules = format!("host all {database} all scram-sha-256\nhost all all all trust\n");
    std::fs::write(server.folder.join("data/pg_hba.conf"), rules).unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let url = |password: &str| format!("postgres://{database}{password}@127.0.0.1:{}/{database}", server.port);
    let reloaded = async {
        while open(&url("")).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, reloaded).await.unwrap();
    let (_, text) = refused(&url("")).await;
    assert!(text.contains(&format!("asks for the password of the role {database}, and found none")), "{text}");
    let (_, text) = refused(&url(":hunter3")).await;
    assert!(text.contains(&format!("refused the role {database}")) && !text.contains("hunter"), "{text}");
    assert!(open(&url(":hunter2")).await.is_ok());
    let rules = format!("hostssl all {database} all trust\nhost all super all trust\n");
    std::fs::write(server.folder.join("data/pg_hba.conf"), rules).unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let reloaded = async {
        while refused(&url("")).await.1.contains("asks for the password") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, reloaded).await.unwrap();
    let (_, text) = refused(&url("")).await;
    assert!(text.contains(&format!("refused the role {database} (no pg_hba.conf entry")), "{text}");
    assert!(text.contains("no encryption") && text.contains("see to pg_hba.conf"), "{text}");
}

/// Makes an authority, and a certificate with its key that the authority signed for a name.
pub(super) fn signed(names: &[&str]) -> (String, Vec<(String, String)>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let signed = names.iter().map(|name| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![(*name).to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, *name);
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    });
    (authority, signed.collect())
}

#[tokio::test]
async fn a_server_is_trusted_by_its_certificate_and_name_and_the_collector_by_its_own() {
    let (authority, signed) = signed(&["localhost", "state-role"]);
    let settings =
        "fsync = off\nssl = on\nssl_cert_file = 'own.pem'\nssl_key_file = 'own.key'\nssl_ca_file = 'ca.pem'\n";
    let rules = "hostssl all \"state-role\" all cert\nhost all all all trust\n";
    let files =
        [("own.pem", &*signed[0].0), ("own.key", &*signed[0].1), ("ca.pem", &*authority), ("pg_hba.conf", rules)];
    let server = Server::with_files(settings, &files);
    let superuser = server.superuser("postgres").await;
    superuser.batch_execute("CREATE ROLE \"state-role\" LOGIN SUPERUSER").await.unwrap();
    let address = |host: &str| {
        let url = format!("postgres://state-role@{host}:{}/postgres?sslmode=verify-full", server.port);
        let mut address = address::parse(&url).unwrap();
        address.authorities = certificates::authorities(authority.as_bytes(), Path::new("ca.pem")).unwrap();
        let identity = format!("{}{}", signed[1].1, signed[1].0);
        address.identity = Some(ClientCertificate::read(&identity).unwrap());
        address
    };
    let told = async |address: ServerAddress| match PostgresStore::open(address).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(told(address("localhost")).await, "");
    let stranger = told(ServerAddress { authorities: Authorities::default(), ..address("localhost") }).await;
    assert!(stranger.contains("UnknownIssuer") && stranger.contains("`state_ca_file`"), "{stranger}");
    let other = told(address("127.0.0.1")).await;
    assert!(other.contains("the TLS of 127.0.0.1") && other.contains("not valid for name"), "{other}");
    let nobody = told(ServerAddress { identity: None, ..address("localhost") }).await;
    assert!(nobody.contains("localhost"), "{nobody}");
    let shared = Server::shared();
    let plain =
        address::parse(&format!("postgres://super@localhost:{}/postgres?sslmode=verify-full", shared.port)).unwrap();
    let plain = told(plain).await;
    assert!(plain.contains("offers no TLS, expected `ssl = on` there"), "{plain}");
}

#[tokio::test]
async fn the_command_for_an_owner_prints_what_collectors_need() {
    let server = Server::shared();
    let database = server.database().await;
    let superuser = server.superuser(&database).await;
    superuser.batch_execute(&format!("CREATE ROLE \"it's {database}\" LOGIN")).await.unwrap();
    let printed = crate::support::command().args(["schema", "--role", &format!("it's {database}")]).output().unwrap();
    assert!(printed.status.success());
    let script = String::from_utf8(printed.stdout).unwrap();
    for _ in 0..2 {
        superuser.batch_execute(&script).await.unwrap();
    }
    let steps = superuser.query_one("SELECT count(*) FROM host_harness.schema_step", &[]).await.unwrap();
    assert_eq!(steps.get::<_, i64>(0), i64::from(schema::KNOWN));
}
