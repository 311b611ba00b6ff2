//! Components that are refused before any of their code runs: because of their imports, their exports, or the cost of
//! compiling them.

use std::fmt::Write;
use std::time::Duration;

use host_harness::built_in;
use source_host::cause;
use source_host::limits::CompileLimits;
use source_host::plugin::Plugin;
use source_host::plugin::compiler::Compiler;
use source_host::plugin::engine::Host;

use crate::security::Table;
use crate::support::{cache, compiler, host};

/// A component that is refused.
pub struct Foreign {
    /// Its fault.
    pub is: &'static str,
    /// Its text.
    text: fn() -> String,
    /// Words of the refusal.
    pub error: &'static str,
}

/// Interfaces that are refused, each by itself.
const IMPORTS: &[&str] = &[
    "wasi:filesystem/types@0.2.0",
    "wasi:filesystem/preopens@0.2.0",
    "wasi:sockets/tcp@0.2.0",
    "wasi:sockets/ip-name-lookup@0.2.0",
    "wasi:cli/environment@0.2.0",
    "wasi:cli/stdout@0.2.0",
    "wasi:clocks/wall-clock@0.2.0",
    "wasi:random/random@0.2.0",
    "wasi:http/incoming-handler@0.2.0",
    "wasi:keyvalue/store@0.2.0",
    "collector:source/secrets@0.2.0",
];

/// All other components that are refused.
pub const FOREIGN: &[Foreign] = &[
    Foreign { is: "no WebAssembly", text: || "hello".to_owned(), error: "not a WebAssembly component" },
    Foreign { is: "a module, no component", text: || "(module)".to_owned(), error: "not a WebAssembly component" },
    Foreign {
        is: "a component that exports nothing",
        text: || "(component)".to_owned(),
        error: "the plugin exports no collector:source/plugin; this host accepts collector:source/plugin@0.2.x",
    },
    Foreign { is: "an export of another type", text: wrong_type, error: "expected `record` found `string`" },
    Foreign { is: "an export without its functions", text: nothing_in_it, error: "does not have export `describe`" },
    Foreign { is: "64-bit memory", text: || within("(memory i64 1)"), error: "memory64" },
    Foreign { is: "two memories", text: || within("(memory 1) (memory 1)"), error: "multiple memories" },
    Foreign { is: "shared memory", text: || within("(memory 1 1 shared)"), error: "threads must be enabled" },
    Foreign {
        is: "more memory at the start than it may have",
        text: || within("(memory 2000)"),
        error: "exceeds the limit of 0x4000000 bytes",
    },
    Foreign {
        is: "more elements of a table than it may have",
        text: || within("(table 30000 funcref)"),
        error: "exceeds the limit of 20000",
    },
    Foreign {
        is: "more tables than it may have",
        text: || within("(table 1 funcref) (table 1 funcref)"),
        error: "defined tables count of 2 exceeds the per-instance limit of 1",
    },
    Foreign { is: "more instances than it may have", text: many_instances, error: "instances" },
    Foreign {
        is: "relaxed SIMD",
        text: || within("(func (param v128) (result v128) local.get 0 i32x4.relaxed_trunc_f32x4_s)"),
        error: "relaxed SIMD",
    },
    Foreign {
        is: "a tail call",
        text: || within("(func $f return_call $f)"),
        error: "tail calls support is not enabled",
    },
    Foreign {
        is: "a tail call through a table",
        text: || within("(table 1 funcref) (func i32.const 0 return_call_indirect)"),
        error: "tail calls support is not enabled",
    },
    Foreign {
        is: "a call by a function's reference",
        text: || within("(type $t (func)) (func (param (ref null $t)) local.get 0 call_ref $t)"),
        error: "function references required",
    },
    Foreign {
        is: "a reference that is never null",
        text: || within("(func (param (ref func)))"),
        error: "function references required",
    },
    Foreign {
        is: "a structure of the garbage collector",
        text: || within("(type (struct (field i32)))"),
        error: "not supported without the gc feature",
    },
    Foreign {
        is: "a small integer of the garbage collector",
        text: || within("(func (result i31ref) (ref.i31 (i32.const 1)))"),
        error: "gc types are disallowed",
    },
    Foreign {
        is: "types that refer to each other",
        text: || within("(rec (type $a (func)) (type $b (func)))"),
        error: "requires `gc` proposal to be enabled",
    },
    Foreign {
        is: "a reference to a value of the host",
        text: || within("(func (param externref))"),
        error: "gc types are disallowed",
    },
    Foreign {
        is: "an exception",
        text: || within("(tag $e) (func throw $e)"),
        error: "exceptions proposal not enabled",
    },
    Foreign {
        is: "an exception's reference",
        text: || within("(func (param exnref) local.get 0 throw_ref)"),
        error: "without the exception handling feature",
    },
    Foreign {
        is: "an exception of the older proposal",
        text: || within("(func try catch_all end)"),
        error: "legacy_exceptions feature required",
    },
    Foreign {
        is: "atomic access",
        text: || within("(memory 1) (func (result i32) i32.const 0 i32.atomic.load)"),
        error: "threads support is not enabled",
    },
    Foreign {
        is: "a function that threads share",
        text: || within("(type (shared (func)))"),
        error: "require the shared-everything-threads proposal",
    },
    Foreign {
        is: "pages of one byte",
        text: || within("(memory 1 (pagesize 1))"),
        error: "the custom page sizes proposal must be enabled",
    },
    Foreign {
        is: "wide arithmetic",
        text: || within("(func (param i64 i64) (result i64 i64) local.get 0 local.get 1 i64.mul_wide_s)"),
        error: "wide arithmetic support is not enabled",
    },
    Foreign {
        is: "stack switching",
        text: || within("(type $f (func)) (type (cont $f))"),
        error: "when stack switching is disabled",
    },
    Foreign {
        is: "memory that is given back",
        text: || within("(memory 1) (func i32.const 0 i32.const 0 memory.discard)"),
        error: "memory control support is not enabled",
    },
    Foreign {
        is: "an asynchronous function",
        text: || "(component (type (func async)))".to_owned(),
        error: "require the component model async feature",
    },
    Foreign {
        is: "a stream",
        text: || "(component (type (stream u8)))".to_owned(),
        error: "requires the component model async feature",
    },
    Foreign {
        is: "an error context",
        text: || "(component (type error-context))".to_owned(),
        error: "requires the component model error-context feature",
    },
    Foreign {
        is: "a thread of a component",
        text: || "(component (core func (canon thread.index)))".to_owned(),
        error: "requires the component model threading feature",
    },
    Foreign {
        is: "a list of a fixed length",
        text: || "(component (type (list u8 4)))".to_owned(),
        error: "require the component model fixed-length lists feature",
    },
    Foreign {
        is: "a map",
        text: || "(component (type (map string u8)))".to_owned(),
        error: "require the component model map feature",
    },
    Foreign {
        is: "a value for an import",
        text: || "(component (import \"a\" (value string)))".to_owned(),
        error: "component model `value`s is not enabled",
    },
    Foreign {
        is: "an import that says what it implements",
        text: || "(component (import \"a\" (implements \"b:c/d\") (instance)))".to_owned(),
        error: "the `cm-implements` feature is not active",
    },
];

/// Code that compilers emit by default, which must be accepted.
const USUAL: &[(&str, &str)] = &[
    ("SIMD", "(func (param v128) (result v128) local.get 0 local.get 0 i32x4.add)"),
    ("copied memory", "(memory 1) (func (memory.copy (i32.const 0) (i32.const 1) (i32.const 2)))"),
    (
        "data that is copied when asked for",
        "(memory 1) (data $d \"text\") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4)) data.drop $d)",
    ),
    (
        "references to functions",
        "(table $t 1 funcref) (elem declare func $f)
         (func $f (table.set $t (i32.const 0) (ref.func $f)) (call_indirect $t (i32.const 0)))",
    ),
    ("several results", "(func (result i32 i64) (block (result i32 i64) i32.const 1 i64.const 2))"),
    ("sign extension", "(func (param i32) (result i32) local.get 0 i32.extend8_s)"),
    ("saturating conversions", "(func (param f64) (result i32) local.get 0 i32.trunc_sat_f64_s)"),
    ("a global that changes", "(global (export \"g\") (mut i32) (i32.const 1))"),
    ("a constant that is a sum", "(global i32 (i32.add (i32.const 1) (i32.const 2)))"),
];

fn within(items: &str) -> String {
    format!("(component (core module $m {items}) (core instance (instantiate $m)))")
}

fn wrong_type() -> String {
    let functions = ["describe", "prepare", "fetch-token", "discover", "poll", "normalize"];
    let exports: String = functions.iter().map(|name| format!("(export \"{name}\" (func $wrong))")).collect();
    format!(
        r#"(component
            (core module $m
                (func (export "f") (result i32) unreachable)
                (memory (export "memory") 1))
            (core instance $i (instantiate $m))
            (func $wrong (result string) (canon lift (core func $i "f") (memory (core memory $i "memory"))))
            (instance $p {exports})
            (export "collector:source/plugin@0.2.0" (instance $p)))"#
    )
}

fn nothing_in_it() -> String {
    r#"(component (instance $p) (export "collector:source/plugin@0.2.0" (instance $p)))"#.to_owned()
}

fn many_instances() -> String {
    format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(5))
}

/// The table in SECURITY.md.
pub fn table() -> Table {
    let imports = IMPORTS
        .iter()
        .map(|import| [format!("an import of `{import}`"), "which is not among the allowed imports".to_owned()].into());
    let others = FOREIGN.iter().map(|foreign| [foreign.is.to_owned(), format!("… {} …", foreign.error)].into());
    Table {
        title: "Components that are refused",
        how: "`tests/foreign.rs` builds these components from text. The host refuses each of them.",
        columns: &["a component with", "message"],
        rows: imports.chain(others).collect(),
    }
}

fn refusal(host: &Host, text: &str) -> String {
    let bytes = if text.ends_with(')') { wat::parse_str(text).unwrap() } else { text.as_bytes().to_vec() };
    let plugin = match Plugin::from_bytes(host, &bytes) {
        Ok(plugin) => plugin,
        Err(error) => return cause::chain(&error),
    };
    // The types of its functions are checked at the first call.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(plugin.describe()).0.err().map_or_else(|| "it was taken".to_owned(), |error| error.to_string())
}

#[test]
fn what_a_plugin_may_not_import_is_named() {
    for import in IMPORTS {
        let refusal = refusal(&host(), &format!("(component (import \"{import}\" (instance)))"));
        assert_eq!(refusal, format!("the plugin imports {import}, which is not among the allowed imports"));
    }
}

#[test]
fn every_foreign_component_is_refused_for_its_own_reason() {
    let wrong = FOREIGN.iter().filter_map(|foreign| {
        let refusal = refusal(&host(), &(foreign.text)());
        (!refusal.contains(foreign.error)).then(|| format!("{}: {refusal}", foreign.is))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns functions that take a compiler long.
fn laborious(functions: usize, statements: usize) -> String {
    let mut body = String::new();
    for index in 0..statements {
        let (left, right) = (index % 7, index % 5);
        writeln!(
            body,
            "(local.set {left} (i64.rotl (i64.mul (local.get {right}) (local.get {left})) (i64.const {index})))"
        )
        .unwrap();
        writeln!(
            body,
            "(if (i64.eqz (local.get {left})) (then (local.set {right} (i64.add (local.get {left}) (i64.const 1)))))"
        )
        .unwrap();
    }
    let function = format!("(func (local i64 i64 i64 i64 i64 i64 i64) {body})");
    within(&function.repeat(functions))
}

/// Returns the result of compiling a component within these limits, without a cache.
fn compiled(limits: CompileLimits, text: &str) -> String {
    refusal(&built_in::host(None, compiler(limits)).unwrap(), text)
}

#[test]
fn compiling_ends_at_its_limits_and_says_which() {
    let text = laborious(60, 500);
    let good = CompileLimits::default();
    let bounded = |limits: CompileLimits| compiled(limits, &text);
    let within = compiled(good.clone(), &laborious(1, 500));
    assert!(within.contains("the plugin exports no collector:source/plugin"), "{within}");
    assert_eq!(
        bounded(CompileLimits { cpu_time: Duration::from_secs(1), ..good.clone() }),
        "compiling the plugin exceeded the limit on processor time, 1000 ms (plugin)"
    );
    // A number that no other compiler has among its arguments.
    let memory_bytes = good.memory_bytes + u64::from(std::process::id());
    assert_eq!(
        bounded(CompileLimits { wall_time: Duration::from_millis(300), memory_bytes, ..good.clone() }),
        "compiling the plugin exceeded the limit on total time, 300 ms (plugin)"
    );
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut words = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let mark = memory_bytes.to_string();
    assert!(!words.any(|words| String::from_utf8_lossy(&words).contains(&mark)), "it was left behind");
    assert_eq!(
        compiled(CompileLimits { memory_bytes: 24 << 20, ..good.clone() }, &laborious(1, 20_000)),
        "compiling the plugin exceeded the limit on memory, 25165824 bytes (plugin)"
    );
    assert_eq!(
        compiled(CompileLimits { code_bytes: 10_000, ..good }, &laborious(1, 500)),
        "compiling the plugin exceeded the limit on compiled code, 10000 bytes (plugin)"
    );
}

/// The refusal of a small component, after its compilation.
const COMPILED: &str = "the plugin exports no collector:source/plugin; this host accepts collector:source/plugin@0.2.x";

#[test]
fn code_that_compilers_emit_by_default_is_compiled() {
    for (what, items) in USUAL {
        assert_eq!(refusal(&host(), &within(items)), COMPILED, "{what}");
    }
}

#[test]
fn what_a_child_compiled_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let open = |compiler| built_in::host(Some(cache.clone()), compiler).unwrap();
    assert_eq!(refusal(&open(compiler(CompileLimits::default())), &within("")), COMPILED);
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    assert_eq!(refusal(&open(Compiler::Nobody), &within("")), COMPILED, "it is in the cache");
}

#[test]
fn a_host_without_a_compiler_runs_the_built_in_plugin_alone() {
    assert!(built_in::plugin(&built_in::host(Some(cache()), Compiler::Nobody).unwrap()).is_ok());
    let none = built_in::host(None, Compiler::Nobody).unwrap();
    assert_eq!(refusal(&none, &within("")), "this host compiles no plugins but those that it trusts");
    let missing = Compiler::Program("/no/such/compiler".into(), CompileLimits::default());
    let refusal = refusal(&built_in::host(None, missing).unwrap(), &within(""));
    assert!(refusal.starts_with("the compiler cannot be started: /no/such/compiler: "), "{refusal}");
}

#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let host = built_in::host(Some(folder.path().to_owned()), compiler(CompileLimits::default())).unwrap();
    assert_eq!(refusal(&host, &within("")), COMPILED);
    let kept = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(&kept, b"native code of somebody else").unwrap();
    assert_eq!(refusal(&host, &within("")), COMPILED);
    assert_eq!(std::fs::read(&kept).unwrap(), b"native code of somebody else", "neither read nor written");
}
