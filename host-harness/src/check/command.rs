//! The whole command `check`: its output for people or for programs, and its exit status.

use std::io;
use std::path::Path;
use std::time::Instant;

use futures_util::{StreamExt, future};
use source_host::clock::Clock;
use source_host::plugin::engine::Host;
use source_host::text;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::check::report::{CheckReport, status};
use crate::check::run::{CheckRun, Heard};
use crate::check::unusable::{broken, broken_for_people, left_out};
use crate::check::{check, check_telling};
use crate::collector::once::Output;
use crate::config::admission::{self, Checked, LeftOut};
use crate::config::{Config, ConfigProblem, ReportedProblems, StartError};
use crate::sink;

/// Runs the whole command. People get the reports, and the event output gets a sample of each feed's events; programs
/// get one object for each feed.
pub async fn tell(
    host: &Host,
    config: Config,
    plugin: Option<&Path>,
    clock: &Clock,
    as_json: bool,
    output: Output<'_>,
) -> Result<u8, StartError> {
    let named = config.named.clone();
    let checked = match admission::check_each(host, config, plugin, clock).await {
        Ok(checked) => checked,
        Err(StartError::Configuration(problems)) => {
            let reports = broken(&named, &problems);
            let shown = if as_json { &reports } else { &broken_for_people(&named, &problems) };
            for report in shown {
                write(report, as_json, output.events, output.people)?;
            }
            return Ok(status(&reports));
        }
        Err(error) => return Err(error),
    };
    let general: Vec<ConfigProblem> = general_warnings(&checked).cloned().collect();
    for warning in ReportedProblems::default().brief(&general) {
        let _ = writeln!(output.people, "warning: {warning}");
    }
    if !as_json {
        return tell_people(&checked, &named, clock, output).await;
    }
    let mut reports = Vec::new();
    let mut growing = std::pin::pin!(check(&checked, clock));
    for id in &named {
        let report = match checked.left_out.iter().find(|out| out.feed == *id) {
            Some(out) => Some(left_out(out)),
            None => growing.next().await,
        };
        let Some(report) = report else { break };
        write(&report, as_json, output.events, output.people)?;
        reports.push(report);
    }
    Ok(status(&reports))
}

/// Shows each step as it ends, feed after feed, and a total if there are several feeds.
async fn tell_people(checked: &Checked, named: &[String], clock: &Clock, output: Output<'_>) -> Result<u8, StartError> {
    let Output { events, people } = output;
    let begun = Instant::now();
    let (tell, heard): (Vec<_>, Vec<UnboundedReceiver<Heard>>) =
        checked.feeds.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let show = async {
        let (mut told, mut out) = (ReportedProblems::default(), Vec::new());
        let mut growing = checked.feeds.iter().zip(heard);
        for id in named {
            if let Some(left) = checked.left_out.iter().find(|left| left.feed == *id) {
                let report = left_out(&LeftOut { problems: told.brief(&left.problems), ..left.clone() });
                write(&report, false, events, people)?;
                out.push(report);
                continue;
            }
            let Some((admitted, mut heard)) = growing.next() else { break };
            // The output may be closed; the sample matters as much.
            let _ =
                people.write_all(CheckRun::new(Some(&admitted.id), Some(&admitted.tenant)).report.head().as_bytes());
            let mut sample = None;
            while let Some(one) = heard.recv().await {
                match one {
                    Heard::Step(step) => {
                        let mut text = String::new();
                        step.write(&mut text);
                        let _ = people.write_all(text::plain_lines(&text).as_bytes());
                    }
                    Heard::Sample(event) => sample = Some(event),
                }
            }
            let _ = people.write_all(b"\n");
            events.write_all(&sink::lines(sample.iter()))?;
            events.flush()?;
        }
        Ok::<_, io::Error>(out)
    };
    let (mut reports, out) =
        future::join(check_telling(checked, clock, tell).collect::<Vec<CheckReport>>(), show).await;
    reports.extend(out?);
    if reports.len() > 1 {
        let good = reports.iter().filter(|report| report.ok()).count();
        let (all, bad, time) = (reports.len(), reports.len() - good, begun.elapsed().as_secs_f64());
        let _ = writeln!(people, "checked {all} feeds in {time:.1} s: {good} ok, {bad} failed");
    }
    Ok(status(&reports))
}

fn write(
    report: &CheckReport,
    as_json: bool,
    events: &mut (dyn io::Write + Send),
    people: &mut (dyn io::Write + Send),
) -> io::Result<()> {
    if as_json {
        writeln!(events, "{}", report.json())?;
        return events.flush();
    }
    // The output may be closed; the sample matters as much.
    let _ = writeln!(people, "{}", text::plain_lines(&report.text()));
    if let Some(sample) = &report.sample {
        events.write_all(&sink::lines(std::iter::once(sample)))?;
    }
    events.flush()
}

/// Returns the warnings that belong to no checked feed.
pub fn general_warnings(checked: &Checked) -> impl Iterator<Item = &ConfigProblem> {
    let of_a_feed =
        |warning: &&ConfigProblem| checked.feeds.iter().any(|feed| warning.place.feed.as_deref() == Some(&*feed.id));
    checked.warnings.iter().filter(move |warning| !of_a_feed(warning))
}
