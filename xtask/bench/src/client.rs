//! The collector beside a bare client: `run` with so many feeds that it never rests, and the same client library, which
//! makes the same three requests for each poll and drops the answers. Both talk to the same simulated service over TLS,
//! one after the other, on the same processors.

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::blocks::{self, Better};
use crate::groups::{Stop, Tools};
use crate::service::{Collector, Service};
use crate::table::{Goal, Row};

/// Tenants, and subscriptions of each: together more polls a second than the bare client makes, so that both sides always
/// have work.
const TENANTS: usize = 50;
const SUBSCRIPTIONS: usize = 60;

/// Polls in flight on both sides.
const IN_FLIGHT: usize = 64;

/// The time until a side is in full swing.
const WARM: Duration = Duration::from_secs(4);

/// The time for which a side is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// Pairs of windows.
const PAIRS: usize = 3;

/// Polls in a second, and milliseconds of processor time a poll.
type Side = [f64; 2];

/// Returns the rows; both come from one measurement.
pub fn rows(tools: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    let harness = tools.need(&tools.harness, "host-harness")?;
    eprintln!("measures the collector and a bare client in turn, for a minute");
    let service = Service::start(harness, TENANTS, SUBSCRIPTIONS)?;
    service.configure(1, IN_FLIGHT)?;
    // One poll of each scope, so that `run` knows all of them from its start.
    service.ended(service.command("poll")?.args(["--state", "collector.db"]))?;
    let sides: Result<Vec<[Side; 2]>, String> =
        (0..PAIRS).map(|_| Ok([collector(&service)?, bare(&service)?])).collect();
    let sides = sides?;
    let pairs = move |of: usize| sides.iter().map(|[ours, bare]| [ours[of], bare[of]]).collect::<Vec<[f64; 2]>>();
    let (rates, times) = (pairs(0), pairs(1));
    let beside = "bare client";
    Ok(vec![
        Row {
            name: "client-polls".to_owned(),
            what: "polls of the collector over TLS, all processors busy".to_owned(),
            unit: "polls/s",
            beside,
            goals: vec![Goal::Ratio(0.7)],
            records: 0,
            measure: Box::new(move |_| Ok(blocks::paired(Better::Larger, &rates))),
        },
        Row {
            name: "client-processor".to_owned(),
            what: "processor time of the collector for a poll over TLS, the same run".to_owned(),
            unit: "ms",
            beside,
            goals: vec![Goal::Most(0.5)],
            records: 0,
            measure: Box::new(move |_| Ok(blocks::paired(Better::Smaller, &times))),
        },
    ])
}

/// Measures `run`, which goes on with the state of the earlier one.
fn collector(service: &Service) -> Result<Side, String> {
    let collector = Collector::start(service)?;
    sleep(WARM);
    let (polls, processor, begun) = (collector.polls()?, collector.processor()?, Instant::now());
    sleep(WINDOW);
    let (polls, processor) = (collector.polls()? - polls, collector.processor()? - processor);
    let seconds = begun.elapsed().as_secs_f64();
    collector.ended()?;
    if polls < 1.0 {
        return Err(service.explained("the collector polled nothing"));
    }
    Ok([polls / seconds, processor.as_secs_f64() * 1e3 / polls])
}

/// Measures the bare client, which is this program once more.
fn bare(service: &Service) -> Result<Side, String> {
    let about = service.file("about.json");
    fs::write(&about, service.about.to_string()).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| format!("this program has no file: {error}"))?;
    let output = Command::new(program).arg(CLIENT).arg(about).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("failed to start the bare client: {error}"))?;
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("the bare client: {error}"))?;
    match (told["polls_per_second"].as_f64(), told["milliseconds"].as_f64()) {
        (Some(rate), Some(milliseconds)) => Ok([rate, milliseconds]),
        _ => Err(format!("the bare client said {told}")),
    }
}

/// The first argument of the bare client.
const CLIENT: &str = "bare-client";

/// Acts as the bare client if this process was started as one.
pub fn as_told() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let about = arguments.next().filter(|argument| argument == CLIENT).and_then(|_| arguments.next())?;
    let told = told(&about);
    Some(match told {
        Ok(told) => {
            let mut out = std::io::stdout();
            let printed = std::io::Write::write_all(&mut out, told.to_string().as_bytes());
            if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: the bare client: {error}");
            ExitCode::FAILURE
        }
    })
}

fn told(about: &str) -> Result<Value, String> {
    let text = fs::read_to_string(about).map_err(|error| format!("{about}: {error}"))?;
    let about: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(polls(&about)).map_err(|error| error.to_string())
}

/// Makes polls, and counts them in a window of time.
async fn polls(about: &Value) -> Result<Value, Box<dyn std::error::Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let certificate = reqwest::Certificate::from_pem(&fs::read(text(&about["ca_file"]))?)?;
    let client = reqwest::Client::builder().tls_certs_only([certificate]).no_proxy().build()?;
    let url = text(&about["url"]);
    // A poll is a subscription with the token of its tenant.
    let mut subscriptions = Vec::new();
    for tenant in about["tenants"].as_array().into_iter().flatten() {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &text(&tenant["client_id"]))
            .append_pair("client_secret", &text(&tenant["client_secret"]))
            .append_pair("scope", &format!("{}/.default", text(&about["audience"])))
            .finish();
        let request = client.post(format!("{url}/{}/oauth2/v2.0/token", text(&tenant["tenant_id"])));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer: Value = serde_json::from_slice(&request.send().await?.error_for_status()?.bytes().await?)?;
        let token = format!("Bearer {}", text(&answer["access_token"]));
        let listed = tenant["subscriptions"].as_array().into_iter().flatten();
        subscriptions.extend(listed.map(|one| (text(one), token.clone())));
    }
    let (subscriptions, done, next) =
        (Arc::new(subscriptions), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, url) = (client.clone(), url.clone());
        let (subscriptions, done, next) = (Arc::clone(&subscriptions), Arc::clone(&done), Arc::clone(&next));
        workers.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed) as usize % subscriptions.len();
                let (subscription, token) = &subscriptions[at];
                let list = format!("{url}/subscriptions/{subscription}/providers/Microsoft.Security");
                // The service gives ten controls a page, and the collector follows the link to the others.
                for list in [
                    format!("{list}/secureScores?api-version=2020-01-01"),
                    format!("{list}/secureScoreControls?api-version=2020-01-01&$expand=definition"),
                    format!("{list}/secureScoreControls?api-version=2020-01-01&$skiptoken=10&$expand=definition"),
                ] {
                    let answer = client.get(list).header("authorization", token).send().await?;
                    answer.error_for_status()?.bytes().await?;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            #[expect(unreachable_code, reason = "the type of an error for the question marks")]
            Ok::<(), reqwest::Error>(())
        });
    }
    tokio::time::sleep(WARM / 4).await;
    let (polls, processor, begun) = (done.load(Ordering::Relaxed), blocks::time(), Instant::now());
    tokio::select! {
        () = tokio::time::sleep(WINDOW) => {}
        Some(ended) = workers.join_next() => {
            ended??;
        }
    }
    let polls = (done.load(Ordering::Relaxed) - polls) as f64;
    let (processor, seconds) = (blocks::time() - processor, begun.elapsed().as_secs_f64());
    Ok(json!({ "polls_per_second": polls / seconds, "milliseconds": processor.as_secs_f64() * 1e3 / polls }))
}
