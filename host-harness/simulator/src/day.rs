//! A day in which the estate changes: one change of each kind that a collector reports, and no others.

use std::fmt;
use std::time::Duration;

use super::estate::{self, Control, Estate, Subscription};

/// A moment of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before any change.
    Morning,
    /// After almost all changes.
    Noon,
    /// One control was repaired since noon. A control that vanished is absent for the second time, which a collector
    /// waits for.
    Evening,
}

/// Time from one moment to the next: the service recomputes every 8 hours.
pub const STEP: Duration = Duration::from_secs(8 * 3_600);

/// Enable MFA: the control that loses a resource in the third subscription.
const MFA: &str = "34a42fb3-e6db-409c-b56b-7b1db6b8aee0";

/// Apply adaptive application control: the fourth subscription has it from noon on.
const NEW: &str = "a000c66f-6da2-4f9d-826d-2364347d2588";

/// Protect applications against DDoS attacks: the fifth subscription has it in the morning only.
const GONE: &str = "a9909064-42b4-4d34-8143-275477afe18b";

impl Moment {
    /// All moments, in order.
    pub const ALL: [Moment; 3] = [Moment::Morning, Moment::Noon, Moment::Evening];

    /// The time from this moment to the evening.
    pub fn before_evening(self) -> Duration {
        match self {
            Moment::Morning => STEP * 2,
            Moment::Noon => STEP,
            Moment::Evening => Duration::ZERO,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Moment::Morning => "morning",
            Moment::Noon => "noon",
            Moment::Evening => "evening",
        })
    }
}

/// Returns an estate at a moment of the day. Of the subscriptions of all tenants, in order, each of the first five and
/// the last one changes in its own way, and the others stay the same. In a smaller estate, one subscription changes in
/// several ways.
pub fn at(estate: &Estate, moment: Moment) -> Estate {
    let mut estate = estate.clone();
    let mut all: Vec<&mut Subscription> =
        estate.tenants.iter_mut().flat_map(|tenant| &mut tenant.subscriptions).collect();
    // A subscription that goes silent hides all its other changes.
    let silent = if all.len() > 1 { all.pop() } else { None };
    let count = all.len();
    if count == 0 {
        return estate;
    }
    match moment {
        Moment::Morning => without(all[3 % count], NEW),
        Moment::Noon | Moment::Evening => {
            drop_score(all[0]);
            lose_mfa(all[2 % count]);
            without(all[4 % count], GONE);
            if let Some(silent) = silent {
                silent.controls.clear();
            }
        }
    }
    if moment == Moment::Evening {
        mend_control(all[1 % count]);
    }
    if moment != Moment::Morning {
        add_subscription(&mut estate);
    }
    estate
}

fn without(subscription: &mut Subscription, id: &str) {
    subscription.controls.retain(|control| control.id != id);
}

/// Reduces the two controls with the most points to none; neither changes in another way.
fn drop_score(subscription: &mut Subscription) {
    let mut controls: Vec<&mut Control> =
        subscription.controls.iter_mut().filter(|control| ![MFA, NEW, GONE].contains(&control.id)).collect();
    controls.sort_by_key(|control| std::cmp::Reverse(control.current_hundredths()));
    for control in controls.into_iter().take(2) {
        control.unhealthy += std::mem::take(&mut control.healthy);
    }
}

/// Adds one resource without MFA.
fn lose_mfa(subscription: &mut Subscription) {
    for control in subscription.controls.iter_mut().filter(|control| control.id == MFA) {
        control.healthy = control.healthy.saturating_sub(1);
        control.unhealthy += 1;
    }
}

/// Repairs the control that can gain the most points.
fn mend_control(subscription: &mut Subscription) {
    let to_gain = |control: &&mut Control| control.max() * 100 - control.current_hundredths();
    if let Some(control) = subscription.controls.iter_mut().max_by_key(to_gain) {
        control.healthy += std::mem::take(&mut control.unhealthy);
    }
}

/// Gives the last tenant one more subscription. The last subscription, which scenarios affect, stays the last.
fn add_subscription(estate: &mut Estate) {
    let number = u32::try_from(estate.tenants.len()).unwrap_or(u32::MAX);
    if let Some(tenant) = estate.tenants.last_mut() {
        let which = u32::try_from(tenant.subscriptions.len()).unwrap_or(u32::MAX);
        let new = estate::subscription(&tenant.name, number, which);
        tenant.subscriptions.insert(0, Subscription { name: format!("{} staging", tenant.name), ..new });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Names the subscriptions that differ, and whether they differ in the score or in the number of controls.
    fn differences(before: &Estate, after: &Estate) -> Vec<String> {
        let all = |estate: &Estate| -> Vec<Subscription> {
            estate.tenants.iter().flat_map(|tenant| tenant.subscriptions.clone()).collect()
        };
        let before = all(before);
        let difference = |now: &Subscription| {
            let Some(then) = before.iter().find(|known| known.id == now.id) else {
                return Some(format!("{}: new", now.name));
            };
            let moved = now.scores() != then.scores() || now.control_items(false) != then.control_items(false);
            let controls = now.controls.len() as i64 - then.controls.len() as i64;
            let points = points(now) - points(then);
            moved.then(|| format!("{}: {controls:+} controls, {points:+.2}", now.name))
        };
        all(after).iter().filter_map(difference).collect()
    }

    fn points(subscription: &Subscription) -> f64 {
        let scores = subscription.scores();
        scores
            .first()
            .and_then(|score| score.pointer("/properties/score/current"))
            .and_then(Value::as_f64)
            .unwrap_or(0.0)
    }

    #[test]
    fn each_thing_happens_to_one_subscription() {
        let estate = Estate::default();
        let [morning, noon, evening] = Moment::ALL.map(|moment| at(&estate, moment));
        assert_eq!(
            differences(&morning, &noon),
            [
                "contoso production: +0 controls, -9.68",
                "fabrikam production: +0 controls, -0.72",
                "fabrikam development: +1 controls, +2.17",
                "northwind production: -1 controls, -1.78",
                "adatum staging: new",
                "adatum production: -14 controls, -37.66",
            ]
        );
        assert_eq!(differences(&noon, &evening), ["contoso development: +0 controls, +8.57"]);
    }

    #[test]
    fn an_estate_of_any_size_has_its_day() {
        for (tenants, subscriptions) in [(0, 0), (1, 1), (1, 2), (3, 1), (40, 3)] {
            let estate = Estate::sized(tenants, subscriptions);
            let [morning, noon, evening] = Moment::ALL.map(|moment| at(&estate, moment));
            assert_eq!(differences(&morning, &noon).is_empty(), tenants == 0, "{tenants} of {subscriptions}");
            assert_eq!(differences(&noon, &evening).is_empty(), tenants == 0, "{tenants} of {subscriptions}");
        }
        // A detection that looks for a drop of three points finds it, whatever the first subscription's score is.
        for number in 0..23 {
            let mut estate = Estate::sized(number + 2, 3);
            estate.tenants.drain(..number as usize);
            let before = points(&at(&estate, Moment::Morning).tenants[0].subscriptions[0]);
            let after = points(&at(&estate, Moment::Noon).tenants[0].subscriptions[0]);
            assert!(after <= before - 3.0, "{number}: {before}, {after}");
        }
    }
}
