//! The order of work: the jobs that are due, with each tenant in turn, within limits on jobs in flight. A tenant with a
//! thousand scopes does not delay a tenant with a single one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Job {
    /// The search for the scopes of a feed.
    Search(u32),
    /// The poll of a scope.
    Poll(u32),
    /// The report that a scope is not polled any more.
    GiveUp(u32),
}

/// The jobs that are planned, due and in flight. Times are Unix milliseconds.
#[derive(Debug)]
pub struct Agenda {
    planned: BTreeSet<(u64, Job)>,
    /// All jobs that are planned or ready.
    known: HashMap<Job, PlannedJob>,
    /// The jobs that are due, by tenant, in the order in which they became due. A tenant in this map has one turn.
    ready: BTreeMap<TenantNumber, BTreeMap<u64, Job>>,
    /// The place of each ready job in the order in which jobs became due.
    places: HashMap<Job, u64>,
    /// Number of jobs that became due so far.
    turned_due: u64,
    /// Tenants with ready jobs, the next one first.
    turns: VecDeque<TenantNumber>,
    in_flight: HashMap<Job, TenantNumber>,
    of_tenant: HashMap<TenantNumber, usize>,
    most: usize,
    most_of_tenant: usize,
}

/// A job that is planned or ready.
#[derive(Debug, Clone, Copy)]
struct PlannedJob {
    due: u64,
    tenant: TenantNumber,
}

/// The number of a tenant.
type TenantNumber = u32;

impl Agenda {
    /// Makes an agenda with limits on the jobs in flight, in total and for each tenant.
    pub fn new(most: usize, most_of_tenant: usize) -> Agenda {
        Agenda {
            planned: BTreeSet::new(),
            known: HashMap::new(),
            ready: BTreeMap::new(),
            places: HashMap::new(),
            turned_due: 0,
            turns: VecDeque::new(),
            in_flight: HashMap::new(),
            of_tenant: HashMap::new(),
            most,
            most_of_tenant,
        }
    }

    /// Changes the limits.
    pub fn limit(&mut self, most: usize, most_of_tenant: usize) {
        (self.most, self.most_of_tenant) = (most, most_of_tenant);
    }

    /// Plans a job, in place of any earlier plan for it.
    pub fn plan(&mut self, job: Job, tenant: TenantNumber, due: u64) {
        self.remove(job);
        self.planned.insert((due, job));
        self.known.insert(job, PlannedJob { due, tenant });
    }

    /// Removes a job; a job in flight stays there.
    pub fn remove(&mut self, job: Job) {
        let Some(PlannedJob { due, tenant }) = self.known.remove(&job) else { return };
        match self.places.remove(&job) {
            None => drop(self.planned.remove(&(due, job))),
            Some(place) => drop(self.ready.get_mut(&tenant).and_then(|ready| ready.remove(&place))),
        }
    }

    /// Returns when a job is planned or was due.
    pub fn due(&self, job: Job) -> Option<u64> {
        self.known.get(&job).map(|known| known.due)
    }

    /// Returns when the next planned job becomes due.
    pub fn next_due(&self) -> Option<u64> {
        self.planned.first().map(|(due, _)| *due)
    }

    /// Takes a job that is due and may begin, with its due time; from now on the job is in flight.
    pub fn take(&mut self, now: u64) -> Option<(Job, u64)> {
        while let Some((due, job)) = self.planned.first().copied().filter(|(due, _)| *due <= now) {
            self.planned.remove(&(due, job));
            if let Some(PlannedJob { tenant, .. }) = self.known.get(&job) {
                let ready = self.ready.entry(*tenant).or_insert_with(|| {
                    self.turns.push_back(*tenant);
                    BTreeMap::new()
                });
                self.turned_due += 1;
                self.places.insert(job, self.turned_due);
                ready.insert(self.turned_due, job);
            }
        }
        if self.in_flight.len() >= self.most {
            return None;
        }
        for _ in 0..self.turns.len() {
            let tenant = self.turns.pop_front()?;
            let busy = self.of_tenant.get(&tenant).copied().unwrap_or_default();
            let Some(ready) = self.ready.get_mut(&tenant) else { continue };
            let free = ready.iter().find(|(_, job)| !self.in_flight.contains_key(job)).map(|(place, _)| *place);
            let taken = free.filter(|_| busy < self.most_of_tenant).and_then(|place| ready.remove(&place));
            if ready.is_empty() {
                self.ready.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
            if let Some(job) = taken {
                let due = self.known.remove(&job).map_or(now, |known| known.due);
                self.places.remove(&job);
                self.in_flight.insert(job, tenant);
                *self.of_tenant.entry(tenant).or_default() += 1;
                return Some((job, due));
            }
        }
        None
    }

    /// Marks a job in flight as ended.
    pub fn done(&mut self, job: Job) {
        let Some(tenant) = self.in_flight.remove(&job) else { return };
        if let Some(busy) = self.of_tenant.get_mut(&tenant) {
            *busy -= 1;
            if *busy == 0 {
                self.of_tenant.remove(&tenant);
            }
        }
    }

    /// Says whether a job is in flight.
    pub fn is_in_flight(&self, job: Job) -> bool {
        self.in_flight.contains_key(&job)
    }

    /// Number of jobs in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(agenda: &mut Agenda, now: u64) -> Vec<Job> {
        std::iter::from_fn(|| agenda.take(now)).map(|(job, _)| job).collect()
    }

    #[test]
    fn nothing_begins_before_it_is_due() {
        let mut agenda = Agenda::new(10, 10);
        agenda.plan(Job::Poll(1), 1, 20);
        agenda.plan(Job::Search(1), 1, 10);
        assert_eq!(taken(&mut agenda, 9), []);
        assert_eq!(agenda.next_due(), Some(10));
        assert_eq!(agenda.take(15), Some((Job::Search(1), 10)));
        assert_eq!(agenda.next_due(), Some(20));
    }

    #[test]
    fn a_large_tenant_does_not_delay_a_small_one() {
        let mut agenda = Agenda::new(4, 3);
        for scope in 0..1_000 {
            agenda.plan(Job::Poll(scope), 1, 5);
        }
        agenda.plan(Job::Poll(5_000), 2, 5);
        let first = taken(&mut agenda, 5);
        assert_eq!(first.len(), 4);
        assert!(first.contains(&Job::Poll(5_000)), "{first:?}");
        agenda.done(Job::Poll(5_000));
        assert_eq!(taken(&mut agenda, 5), [], "the large tenant has all that one tenant may have");
        agenda.done(first[0]);
        assert_eq!(taken(&mut agenda, 5).len(), 1);
    }

    #[test]
    fn a_new_plan_takes_the_place_of_the_old_one() {
        let mut agenda = Agenda::new(10, 10);
        agenda.plan(Job::Poll(1), 1, 5);
        agenda.plan(Job::Poll(1), 1, 50);
        assert_eq!(taken(&mut agenda, 5), []);
        assert_eq!(taken(&mut agenda, 50), [Job::Poll(1)]);
        agenda.plan(Job::Poll(2), 1, 50);
        agenda.plan(Job::Poll(3), 1, 50);
        agenda.limit(1, 1);
        assert_eq!(taken(&mut agenda, 60), []);
        agenda.remove(Job::Poll(2));
        agenda.done(Job::Poll(1));
        assert_eq!(taken(&mut agenda, 60), [Job::Poll(3)]);
    }

    #[test]
    fn a_tenant_has_one_turn_however_often_it_is_planned() {
        let mut agenda = Agenda::new(100, 100);
        agenda.plan(Job::Poll(9), 2, 5);
        agenda.limit(0, 0);
        for _ in 0..5 {
            agenda.plan(Job::Poll(1), 1, 5);
            assert_eq!(agenda.take(5), None);
        }
        for scope in 2..6 {
            agenda.plan(Job::Poll(scope), 1, 5);
        }
        agenda.plan(Job::Poll(8), 2, 5);
        agenda.limit(100, 100);
        let order: Vec<Job> = taken(&mut agenda, 5);
        let second = order.iter().position(|job| *job == Job::Poll(8)).unwrap();
        assert!(second <= 3, "{order:?}");
    }

    #[test]
    fn what_is_in_flight_keeps_nobody_else_waiting() {
        let mut agenda = Agenda::new(10, 10);
        agenda.plan(Job::Poll(1), 1, 5);
        assert_eq!(taken(&mut agenda, 5), [Job::Poll(1)]);
        agenda.plan(Job::Poll(1), 1, 5);
        agenda.plan(Job::Poll(2), 1, 5);
        assert_eq!(taken(&mut agenda, 5), [Job::Poll(2)]);
    }

    #[test]
    fn what_is_in_flight_does_not_begin_again() {
        let mut agenda = Agenda::new(10, 10);
        agenda.plan(Job::Poll(1), 1, 5);
        assert_eq!(taken(&mut agenda, 5), [Job::Poll(1)]);
        agenda.plan(Job::Poll(1), 1, 6);
        assert_eq!(taken(&mut agenda, 7), []);
        agenda.done(Job::Poll(1));
        assert_eq!(taken(&mut agenda, 7), [Job::Poll(1)]);
    }
}
