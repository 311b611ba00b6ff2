//! A plugin: its bytes, its imports and exports, and its code, compiled and linked once. Faults are found here, before
//! any code of the plugin runs.

pub mod answer;
pub mod bound;
mod cache;
pub mod call;
mod clock;
pub mod compiler;
pub mod engine;
pub mod event;
mod features;
mod fence;
mod hook;
mod journal;
mod known;
pub mod log_share;
mod meter;
pub mod seal;
mod standstill;
#[doc(hidden)]
pub mod tap;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::OnceCell;
use wasmtime::StoreContextMut;
use wasmtime::component::{Component, HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi_http::p2::bindings::http::types::Method;
use wasmtime_wasi_http::p2::bindings::{LinkOptions, http};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::blame::Blame;
use crate::contract::{self, ACCEPTED, Description, Failure, INTERFACE, PluginCodePre};
use crate::credentials::settings::Validators;
use crate::credentials::spelling;
use crate::digest::digest;
use crate::limits;
use crate::plugin::call::{CallError, CallState, ClockView, Tap};
use crate::plugin::compiler::{CompileError, EngineRefusal};
use crate::plugin::engine::Host;
pub use crate::plugin::known::KnownPlugin;
use crate::text;

/// The interfaces that a plugin may import, without versions. This list is the list of a plugin's capabilities.
pub const ALLOWED_IMPORTS: &[&str] = &[
    "wasi:http/types",
    "wasi:http/outgoing-handler",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/monotonic-clock",
    "collector:source/log",
    "collector:source/credentials",
    // Types that exported functions share with the interfaces above.
    "collector:source/plugin",
];

/// A plugin that is ready to run. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    shared: Arc<PluginInner>,
    tap: Option<Tap>,
}

struct PluginInner {
    host: Host,
    linked: PluginCodePre<CallState>,
    about: About,
    description: OnceCell<Arc<Description>>,
    validators: Validators,
}

/// Facts about a plugin that are known without running it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct About {
    /// Bytes of the component.
    pub bytes: usize,
    /// Digest of the component in lower-case hexadecimal.
    pub sha256: String,
    /// Names of the imports, with versions.
    pub imports: Vec<String>,
    /// Names of the exports, with versions.
    pub exports: Vec<String>,
}

/// The reason why a plugin is unusable. The plugin is at fault, unless its file cannot be read or there is no compiler.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file cannot be read.
    #[error("cannot be read")]
    Unreadable(#[source] std::io::Error),
    /// The file is larger than a plugin may be.
    #[error("the plugin has more than {} bytes", limits::PLUGIN_BYTES)]
    TooLarge,
    /// The file is not a component, or the engine refuses it.
    #[error("not a WebAssembly component that this host runs")]
    Invalid(#[source] EngineRefusal),
    /// The first bytes are not those of a component.
    #[error("not a WebAssembly component: {0}")]
    Foreign(&'static str),
    /// The plugin could not be compiled within limits, or this host has no compiler.
    #[error(transparent)]
    Compile(CompileError),
    /// The plugin imports an interface that plugins may not use.
    #[error("the plugin imports {0}, which is not among the allowed imports")]
    Import(String),
    /// The plugin is made for another version of the contract.
    #[error("the plugin exports {found}; this host accepts {}", accepted())]
    Version {
        /// The version that the plugin exports.
        found: String,
    },
}

fn accepted() -> String {
    let versions: Vec<_> = ACCEPTED.iter().map(|version| format!("{INTERFACE}@{version}.x")).collect();
    versions.join(" or ")
}

impl Plugin {
    /// Reads a plugin from a file.
    pub fn from_file(host: &Host, file: &Path) -> Result<Plugin, PluginError> {
        Plugin::from_bytes(host, &read(file).map_err(PluginError::Unreadable)?)
    }

    /// Compiles a plugin, checks its imports, and links it.
    pub fn from_bytes(host: &Host, bytes: &[u8]) -> Result<Plugin, PluginError> {
        if bytes.len() as u64 > limits::PLUGIN_BYTES {
            return Err(PluginError::TooLarge);
        }
        if let Some(found) = foreign(bytes) {
            return Err(PluginError::Foreign(found));
        }
        let invalid = |error: wasmtime::Error| PluginError::Invalid(EngineRefusal::new(error));
        let component = host.component(bytes).map_err(|error| match error {
            CompileError::Refused(refusal) => PluginError::Invalid(refusal),
            other => PluginError::Compile(other),
        })?;
        let about = about(host, &component, bytes);
        check(&about)?;
        let linker = linker(host).map_err(invalid)?;
        let linked = linker.instantiate_pre(&component).and_then(PluginCodePre::new).map_err(invalid)?;
        let shared = PluginInner {
            host: host.clone(),
            linked,
            about,
            description: OnceCell::new(),
            validators: Validators::default(),
        };
        Ok(Plugin { shared: Arc::new(shared), tap: None })
    }

    /// Returns facts that are known without running the plugin.
    pub fn about(&self) -> &About {
        &self.shared.about
    }

    /// The plugin's description of itself, requested once.
    pub async fn description(&self) -> Result<Arc<Description>, CallError> {
        let ask = || async { self.describe().await.0.map(Arc::new) };
        self.shared.description.get_or_try_init(ask).await.cloned()
    }

    /// The description, if it was requested before.
    pub(crate) fn described(&self) -> Option<Arc<Description>> {
        self.shared.description.get().cloned()
    }

    /// Who can mend a failure of the plugin's calls.
    pub fn blame(&self, failure: &Failure) -> Blame {
        self.known().blame(failure)
    }

    /// The embedder's knowledge of the plugin, once its description was requested.
    pub fn known(&self) -> KnownPlugin {
        self.described().map_or(KnownPlugin::UNKNOWN, |description| self.host().known(&description.name))
    }

    /// The validators of the schemas in the description.
    pub(crate) fn validators(&self) -> &Validators {
        &self.shared.validators
    }

    pub(crate) fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// The host that runs the plugin.
    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    pub(crate) fn linked(&self) -> &PluginCodePre<CallState> {
        &self.shared.linked
    }
}

/// Names the format of bytes that are not a component.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let begins: [(&[u8], _); 7] = [
        (b"\0asm\x0d\0\x01\0", None),
        (
            b"\0asm\x01\0\0\0",
            Some(
                "the file is a core module, expected a component; build it for the target wasm32-wasip2, or convert it: \
                 wasm-tools component new MODULE.wasm -o PLUGIN.wasm",
            ),
        ),
        (b"\0asm", Some("the file is WebAssembly of another version, expected a component (layer 1, version 13)")),
        (b"PK\x03\x04", Some("the file is a ZIP archive, expected the component that is in it")),
        (b"\x1f\x8b", Some("the file is compressed with gzip, expected the component that is in it: gunzip")),
        (
            b"\x28\xb5\x2f\xfd",
            Some("the file is compressed with Zstandard, expected the component that is in it: unzstd"),
        ),
        (b"\x7fELF", Some("the file is compiled for one kind of processor (ELF), expected a component")),
    ];
    if let Some((_, found)) = begins.into_iter().find(|(begin, _)| bytes.starts_with(begin)) {
        return found;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Some("the file has another binary format, expected a component");
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text.chars().take(400).collect::<String>().to_ascii_lowercase();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    Some(match text.chars().next() {
        None => "the file is empty, expected a component",
        Some('(' | ';') if lower.contains("(component") => {
            "the file is WebAssembly as text (WAT), expected it as binary: wasm-tools parse PLUGIN.wat -o PLUGIN.wasm"
        }
        Some('(' | ';') if lower.contains("(module") => {
            "the file is a core module as text (WAT), expected a component as binary"
        }
        Some('<') if spelling::is_page(text) => {
            "the file is a web page (HTML), expected a component: check whether the download needs a sign-in"
        }
        Some('{') => "the file looks like JSON, expected a component",
        Some(_) if line.starts_with('[') && line.ends_with(']') || line.contains(" = ") => {
            "the file looks like TOML, such as a configuration, expected a component"
        }
        Some(_) if text.starts_with("version https://git-lfs") => {
            "the file is a pointer of Git LFS, expected the component that it stands for: git lfs pull"
        }
        Some(_) => "the file is text, expected a component",
    })
}

/// Reads a plugin's file, at most one byte more than the limit, whatever size the file states.
pub fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    text::open(file)?.take(limits::PLUGIN_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn about(host: &Host, component: &Component, bytes: &[u8]) -> About {
    let kind = component.component_type();
    About {
        bytes: bytes.len(),
        sha256: digest(bytes),
        imports: kind.imports(host.engine()).map(|(name, _)| name.to_owned()).collect(),
        exports: kind.exports(host.engine()).map(|(name, _)| name.to_owned()).collect(),
    }
}

fn check(about: &About) -> Result<(), PluginError> {
    let base = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    if let Some(import) = about.imports.iter().find(|import| !ALLOWED_IMPORTS.contains(&base(import).as_str())) {
        return Err(PluginError::Import(text::plain(import)));
    }
    let export = about.exports.iter().find(|export| base(export) == INTERFACE);
    let version = export.and_then(|export| export.split_once('@')).map(|(_, version)| version);
    let accepted = |version: &str| {
        ACCEPTED.iter().any(|accepted| version.strip_prefix(accepted).is_some_and(|rest| rest.starts_with('.')))
    };
    match version {
        Some(version) if accepted(version) => Ok(()),
        _ => Err(PluginError::Version {
            found: export.map_or_else(|| format!("no {INTERFACE}"), |export| text::plain(export)),
        }),
    }
}

/// Bounds the method and the authority of a request, which the engine keeps at any length, whether the request is sent
/// or not. Lengths that no service uses are refused as invalid.
fn bound_words(
    linker: &mut Linker<CallState>,
    view: for<'a> fn(&'a mut CallState) -> WasiHttpCtxView<'a>,
) -> wasmtime::Result<()> {
    use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest, OutgoingRequest};
    linker.allow_shadowing(true);
    let mut types = linker.instance(HTTP_TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        move |mut store: StoreContextMut<'_, CallState>, (request, method): (Resource<OutgoingRequest>, Method)| {
            let long = matches!(&method, Method::Other(name) if name.len() > limits::CODE_BYTES);
            let set = if long { Err(()) } else { view(store.data_mut()).set_method(request, method)? };
            Ok((set,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        move |mut store: StoreContextMut<'_, CallState>,
              (request, name): (Resource<OutgoingRequest>, Option<String>)| {
            let long = name.as_ref().is_some_and(|name| name.len() > limits::ADDRESS_BYTES);
            let set = if long { Err(()) } else { view(store.data_mut()).set_authority(request, name)? };
            Ok((set,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Refuses a request of a call without HTTP before anything waits for it. If a task refused it later, a plugin could
/// count its looks for the answer: a clock, and the dice for another plan.
fn refuse_at_once(
    linker: &mut Linker<CallState>,
    view: for<'a> fn(&'a mut CallState) -> WasiHttpCtxView<'a>,
) -> wasmtime::Result<()> {
    use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host;
    use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Host as _, OutgoingRequest, RequestOptions};
    linker.allow_shadowing(true);
    linker.instance(HTTP_HANDLER)?.func_wrap(
        "handle",
        move |mut store: StoreContextMut<'_, CallState>,
              (request, options): (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>)| {
            let state = store.data_mut();
            if state.hook.network.is_none() {
                let refused = state.table.delete(request)?;
                let address = [refused.authority, refused.path_with_query].map(Option::unwrap_or_default).concat();
                state.hook.refuse(method_name(&refused.method), &address);
                return Ok((Err(ErrorCode::HttpRequestDenied),));
            }
            let handled = match view(state).handle(request, options) {
                Ok(answer) => Ok(answer),
                Err(error) => Err(view(state).convert_error_code(error)?),
            };
            Ok((handled,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

/// The versions that the engine links; a component that imports an earlier patch version gets the same.
const HTTP_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
const HTTP_TYPES: &str = "wasi:http/types@0.2.12";

/// Links interface by interface: a plugin has no interface that is not named here.
fn linker(host: &Host) -> wasmtime::Result<Linker<CallState>> {
    struct IoImports;
    impl HasData for IoImports {
        type Data<'a> = &'a mut wasmtime::component::ResourceTable;
    }
    struct HostImports;
    impl HasData for HostImports {
        type Data<'a> = &'a mut CallState;
    }
    struct ClockImports;
    impl HasData for ClockImports {
        type Data<'a> = ClockView<'a>;
    }
    fn clock(store: &mut CallState) -> ClockView<'_> {
        ClockView { clock: &mut store.clock, table: &mut store.table }
    }
    fn http_view(store: &mut CallState) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut store.http, table: &mut store.table, hooks: &mut store.hook }
    }
    let mut linker = Linker::new(host.engine());
    io::error::add_to_linker::<CallState, IoImports>(&mut linker, |store| &mut store.table)?;
    io::poll::add_to_linker::<CallState, IoImports>(&mut linker, |store| &mut store.table)?;
    io::streams::add_to_linker::<CallState, IoImports>(&mut linker, |store| &mut store.table)?;
    monotonic_clock::add_to_linker::<CallState, ClockImports>(&mut linker, clock)?;
    http::outgoing_handler::add_to_linker::<CallState, WasiHttp>(&mut linker, http_view)?;
    http::types::add_to_linker::<CallState, WasiHttp>(&mut linker, &LinkOptions::default().into(), http_view)?;
    bound_words(&mut linker, http_view)?;
    refuse_at_once(&mut linker, http_view)?;
    contract::log::add_to_linker::<CallState, HostImports>(&mut linker, |store| store)?;
    contract::credentials::add_to_linker::<CallState, HostImports>(&mut linker, |store| store)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_component_are_named_as_what_they_look_like() {
        for (bytes, expected) in [
            (&b""[..], "the file is empty"),
            (b"\xef\xbb\xbf \n", "the file is empty"),
            (b"\0asm\x01\0\0\0\x01", "the file is a core module"),
            (b"\0asm\x02\0\0\0", "the file is WebAssembly of another version"),
            (b"(component)", "the file is WebAssembly as text (WAT)"),
            (b";; none\n(module)", "the file is a core module as text (WAT)"),
            (b"PK\x03\x04\xff", "the file is a ZIP archive"),
            (b"\x1f\x8b\x08", "the file is compressed with gzip"),
            (b"\x7fELF\x02", "the file is compiled for one kind of processor"),
            (b"\x89PNG\r\n\x1a\n", "the file has another binary format"),
            (b"<!DOCTYPE html>\n<html>", "the file is a web page (HTML)"),
            (b"{\"a\": 1}", "the file looks like JSON"),
            (b"# all\n[[feed]]\nid = \"f\"\n", "the file looks like TOML"),
            (b"state = \"x\"\n", "the file looks like TOML"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "the file is a pointer of Git LFS"),
            (b"hello", "the file is text"),
        ] {
            let found = foreign(bytes).unwrap_or_default();
            assert!(found.starts_with(expected), "{found}");
        }
        assert_eq!(foreign(b"\0asm\x0d\0\x01\0"), None);
    }
}
