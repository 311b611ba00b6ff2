//! The whole command: what `check` writes for people or for programs, and its exit status.

use std::io;
use std::path::Path;
use std::time::Instant;

use futures_util::{StreamExt, future};
use source_host::clock::Clock;
use source_host::plugin::engine::Host;
use source_host::text;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::check::ladder::{Ladder, status};
use crate::check::run::{CheckRun, Heard};
use crate::check::unusable::{broken, broken_for_people, left_out};
use crate::check::{check, check_telling};
use crate::collector::once::Output;
use crate::config::admission::{self, Checked, LeftOut};
use crate::config::{Config, ConfigProblem, ReportedProblems, StartError};
use crate::sink;

/// The whole command: the ladders for people, and a sample of each feed's events where events go; or for programs one
/// object a feed.
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
            let ladders = broken(&named, &problems);
            let shown = if as_json { &ladders } else { &broken_for_people(&named, &problems) };
            for ladder in shown {
                write(ladder, as_json, output.events, output.people)?;
            }
            return Ok(status(&ladders));
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
    let mut ladders = Vec::new();
    let mut growing = std::pin::pin!(check(&checked, clock));
    for id in &named {
        let ladder = match checked.left_out.iter().find(|out| out.feed == *id) {
            Some(out) => Some(left_out(out)),
            None => growing.next().await,
        };
        let Some(ladder) = ladder else { break };
        write(&ladder, as_json, output.events, output.people)?;
        ladders.push(ladder);
    }
    Ok(status(&ladders))
}

/// Shows each step as it ends, feed after feed, and of several feeds a total.
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
                let ladder = left_out(&LeftOut { problems: told.brief(&left.problems), ..left.clone() });
                write(&ladder, false, events, people)?;
                out.push(ladder);
                continue;
            }
            let Some((admitted, mut heard)) = growing.next() else { break };
            // Nobody may be listening; the sample matters as much.
            let _ = people.write_all(CheckRun::new(&admitted.id, &admitted.tenant).ladder.head().as_bytes());
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
    let (mut ladders, out) = future::join(check_telling(checked, clock, tell).collect::<Vec<Ladder>>(), show).await;
    ladders.extend(out?);
    if ladders.len() > 1 {
        let good = ladders.iter().filter(|ladder| ladder.ok()).count();
        let (all, bad, time) = (ladders.len(), ladders.len() - good, begun.elapsed().as_secs_f64());
        let _ = writeln!(people, "checked {all} feeds in {time:.1} s: {good} ok, {bad} failed");
    }
    Ok(status(&ladders))
}

fn write(
    ladder: &Ladder,
    as_json: bool,
    events: &mut (dyn io::Write + Send),
    people: &mut (dyn io::Write + Send),
) -> io::Result<()> {
    if as_json {
        writeln!(events, "{}", ladder.json())?;
        return events.flush();
    }
    // Nobody may be listening; the sample matters as much.
    let _ = writeln!(people, "{}", text::plain_lines(&ladder.text()));
    if let Some(sample) = &ladder.sample {
        events.write_all(&sink::lines(std::iter::once(sample)))?;
    }
    events.flush()
}

/// What is odd and belongs to no feed that is checked.
pub fn general_warnings(checked: &Checked) -> impl Iterator<Item = &ConfigProblem> {
    let of_a_feed =
        |warning: &&ConfigProblem| checked.feeds.iter().any(|feed| warning.feed.as_deref() == Some(&*feed.id));
    checked.warnings.iter().filter(move |warning| !of_a_feed(warning))
}
