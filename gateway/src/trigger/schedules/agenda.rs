//! Which schedule is due next, over all tenants: a heap with one moment for each. Pure: the caller passes the time.
//!
//! Invariant: a schedule's next moment is computed from its last moment and never from the clock, so that a clock that was
//! set back repeats none. A reload keeps the moment of an unchanged schedule.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::ids::{ComponentName, TenantId};
use crate::route::{Expression, ScheduleId};

/// A moment that is this many seconds late is missed.
pub(super) const LATE: u64 = 30;
/// How many missed moments of one schedule are counted one by one; a clock that was set ahead by a year must not cost more.
const MISSED_MAX: u64 = 1000;

/// One schedule of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: TenantId,
    pub(super) schedule: ScheduleId,
}

/// A schedule in the configuration.
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) component: ComponentName,
    pub(super) expression: Expression,
}

/// A schedule that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) key: Key,
    /// The moment to run, in seconds since 1970. Nothing if all were missed.
    pub(super) at: Option<u64>,
    /// Whether no run of this schedule is in progress here. The caller reports when the run has ended.
    pub(super) is_free: bool,
    pub(super) missed: u64,
}

/// A schedule, for operators.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub(crate) tenant: TenantId,
    pub(crate) component: ComponentName,
    pub(crate) expression: Expression,
    /// In seconds since 1970. Nothing if it will never be due again.
    pub(crate) next: Option<u64>,
    pub(crate) is_running: bool,
    /// The last moment since this process started, and its outcome.
    pub(crate) last: Option<(u64, &'static str)>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    component: ComponentName,
    expression: Expression,
    next: Option<u64>,
    last: Option<(u64, &'static str)>,
}

#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: Vec<Entry>,
    /// The index of each schedule.
    index: HashMap<Key, usize>,
    /// The next moment of each entry that has one.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    /// Schedules with a run in progress, even if they are no longer configured.
    running: HashSet<Key>,
}

impl Agenda {
    /// Applies another configuration. A new schedule starts after now. If it replaces one that is due and not processed
    /// yet, it starts there: a changed expression of a component loses no moment that both have.
    pub(super) fn replace(&mut self, wanted: impl Iterator<Item = Wanted>, now: u64) {
        let mut before: HashMap<Key, Entry> = self.entries.drain(..).map(|entry| (entry.key.clone(), entry)).collect();
        let mut fresh = Vec::new();
        for wanted in wanted {
            match before.remove(&wanted.key) {
                Some(known) => self.entries.push(known),
                None => fresh.push(wanted),
            }
        }
        let mut owed: HashMap<(TenantId, ComponentName), u64> = HashMap::new();
        for gone in before.into_values() {
            let Some(due) = gone.next.filter(|next| *next <= now) else { continue };
            let since = owed.entry((gone.key.tenant, gone.component)).or_insert(due);
            *since = due.min(*since);
        }
        for Wanted { key, component, expression } in fresh {
            let owed = owed.get(&(key.tenant.clone(), component.clone()));
            let next = expression.next_after(owed.map_or(now, |due| due.saturating_sub(1)));
            self.entries.push(Entry { key, component, expression, next, last: None });
        }
        self.index = self.entries.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)).collect();
        let moments = self.entries.iter().enumerate();
        self.heap = moments.filter_map(|(index, entry)| Some(Reverse((entry.next?, index)))).collect();
    }

    /// When the next schedule is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// What is due by now: for each schedule the newest moment; earlier ones are missed.
    pub(super) fn due(&mut self, now: u64) -> Vec<Moment> {
        let mut due = Vec::new();
        while let Some(Reverse((at, index))) = self.heap.peek().copied()
            && at <= now
        {
            self.heap.pop();
            let Some(entry) = self.entries.get_mut(index) else { continue };
            let (at, missed) = entry.pass(at, now);
            self.heap.extend(entry.next.map(|next| Reverse((next, index))));
            let key = entry.key.clone();
            let is_free = at.is_some() && self.running.insert(key.clone());
            due.push(Moment { key, at, is_free, missed });
        }
        due
    }

    /// Notes that the run of a free moment has ended or never began. For a moment that was not free, notes the reason.
    pub(super) fn ended(&mut self, moment: &Moment, outcome: &'static str) {
        if moment.is_free {
            self.running.remove(&moment.key);
        }
        let entry = self.index.get(&moment.key).and_then(|index| self.entries.get_mut(*index));
        if let (Some(entry), Some(at)) = (entry, moment.at) {
            entry.last = Some((at, outcome));
        }
    }

    /// All schedules, or those of a tenant, in no order.
    pub(super) fn all(&self, of: Option<&TenantId>) -> Vec<Timed> {
        let entries = self.entries.iter().filter(|entry| of.is_none_or(|of| entry.key.tenant == *of));
        let timed = entries.map(|entry| Timed {
            tenant: entry.key.tenant.clone(),
            component: entry.component.clone(),
            expression: entry.expression.clone(),
            next: entry.next,
            is_running: self.running.contains(&entry.key),
            last: entry.last,
        });
        timed.collect()
    }
}

impl Entry {
    /// Advances beyond now. Returns the newest moment until then, and how many are missed.
    fn pass(&mut self, first: u64, now: u64) -> (Option<u64>, u64) {
        let (mut at, mut missed) = (first, 0);
        self.next = self.expression.next_after(at);
        while let Some(next) = self.next.filter(|next| *next <= now) {
            missed += 1;
            at = next;
            let from = if missed == MISSED_MAX { at.max(now.saturating_sub(LATE)) } else { at };
            self.next = self.expression.next_after(from);
        }
        if now - at > LATE { (None, missed + 1) } else { (Some(at), missed) }
    }
}

/// The time as it only moves forward: it stands still while the machine's clock is behind.
#[derive(Debug, Default)]
pub(super) struct Forward(u64);

impl Forward {
    /// In milliseconds since 1970.
    pub(super) fn at(&mut self, clock: u64) -> u64 {
        self.0 = self.0.max(clock);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-12-01 00:00:00.
    const DAY: u64 = 1_796_083_200;

    fn wanted(tenant: &str, component: &str, text: &str) -> Wanted {
        let expression = Expression::parse(text).unwrap();
        let schedule = ScheduleId::of(component, &expression, 0);
        let key = Key { tenant: TenantId::parse(tenant).unwrap(), schedule };
        Wanted { key, component: ComponentName::parse(component).unwrap(), expression }
    }

    fn agenda(wanted: impl IntoIterator<Item = Wanted>, now: u64) -> Agenda {
        let mut agenda = Agenda::default();
        agenda.replace(wanted.into_iter(), now);
        agenda
    }

    /// The moments that are run. Each run ends at once.
    fn run(agenda: &mut Agenda, now: u64) -> Vec<u64> {
        let due = agenda.due(now);
        due.iter().for_each(|moment| agenda.ended(moment, "ok"));
        due.into_iter().filter_map(|moment| moment.at).collect()
    }

    #[test]
    fn each_moment_is_due_once_and_in_order() {
        let mut agenda = agenda([wanted("a", "x", "*/10 * * * * *"), wanted("b", "x", "5 * * * * *")], DAY);
        let mut seen = Vec::new();
        for now in DAY..=DAY + 60 {
            // Twice a second.
            seen.extend(run(&mut agenda, now));
            seen.extend(run(&mut agenda, now));
        }
        assert_eq!(seen, [5, 10, 20, 30, 40, 50, 60].map(|after| DAY + after));
        assert_eq!(agenda.next(), Some(DAY + 65));
    }

    #[test]
    fn schedules_that_are_not_due_cost_nothing() {
        let one = wanted("a", "hourly", "0 0 * * * *");
        let hourly = (0..10_000).map(|number| Wanted {
            key: Key { tenant: TenantId::parse(&format!("t{number}")).unwrap(), ..one.key.clone() },
            component: one.component.clone(),
            expression: one.expression.clone(),
        });
        let mut agenda = agenda(hourly.chain([wanted("a", "x", "* * * * * *")]), DAY);
        let heap = agenda.heap.len();
        assert_eq!(run(&mut agenda, DAY + 1), [DAY + 1]);
        assert_eq!((agenda.heap.len(), agenda.entries.len()), (heap, 10_001), "one was taken and put back");
    }

    #[test]
    fn an_overdue_run_is_skipped_and_counted() {
        let mut agenda = agenda([wanted("a", "x", "* * * * * *")], DAY);
        let due = agenda.due(DAY + 5);
        assert_eq!((due[0].at, due[0].missed), (Some(DAY + 5), 4), "the newest of them runs");
        agenda.ended(&due[0], "ok");
        let mut slow = super::tests::agenda([wanted("a", "x", "0 0 0 * * *")], DAY);
        let due = slow.due(2 * 86_400 + DAY + LATE + 1);
        assert_eq!((due[0].at, due[0].is_free, due[0].missed), (None, false, 2));
        assert_eq!(slow.next(), Some(DAY + 3 * 86_400));
    }

    #[test]
    fn a_clock_that_is_set_ahead_costs_a_bounded_count() {
        let mut agenda = agenda([wanted("a", "x", "* * * * * *")], DAY);
        let year = DAY + 365 * 86_400;
        let due = agenda.due(year);
        assert_eq!(due[0].at, Some(year));
        assert!((MISSED_MAX..MISSED_MAX + LATE + 2).contains(&due[0].missed), "{}", due[0].missed);
        assert_eq!(agenda.next(), Some(year + 1));
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_no_moment() {
        let mut agenda = agenda([wanted("a", "x", "*/10 * * * * *")], DAY);
        let mut clock = Forward::default();
        let mut seen = Vec::new();
        for clock_ms in [DAY + 10, DAY + 20, DAY + 3, DAY + 10, DAY + 20, DAY + 29, DAY + 30].map(|at| at * 1000) {
            let now = clock.at(clock_ms) / 1000;
            // A reload in between starts a new schedule after the latest time that was seen.
            agenda.replace([wanted("a", "x", "*/10 * * * * *"), wanted("a", "y", "*/10 * * * * *")].into_iter(), now);
            seen.extend(run(&mut agenda, now));
        }
        assert_eq!(seen, [10, 20, 20, 30, 30].map(|after| DAY + after));
    }

    #[test]
    fn a_schedule_with_a_run_in_progress_is_not_free_after_a_reload() {
        let mut agenda = agenda([wanted("a", "x", "* * * * * *")], DAY);
        let first = agenda.due(DAY + 1).remove(0);
        assert!(first.is_free);
        assert!(!agenda.due(DAY + 2)[0].is_free);
        agenda.replace(std::iter::empty(), DAY + 2);
        assert_eq!(agenda.next(), None);
        agenda.replace([wanted("a", "x", "* * * * * *")].into_iter(), DAY + 2);
        assert!(!agenda.due(DAY + 3)[0].is_free);
        assert!(agenda.all(None)[0].is_running);
        agenda.ended(&first, "ok");
        assert!(agenda.due(DAY + 4)[0].is_free);
        assert_eq!((agenda.running.len(), agenda.all(None)[0].last), (1, Some((DAY + 1, "ok"))));
    }

    #[test]
    fn a_reload_neither_loses_nor_doubles_a_moment() {
        let mut agenda = agenda([wanted("a", "x", "0 * * * * *"), wanted("b", "x", "0 * * * * *")], DAY);
        // It is due and not processed yet: a's expression changes, b's stays.
        let (now, same) = (DAY + 60, || wanted("b", "x", "0 * * * * *"));
        agenda.replace([wanted("a", "x", "0 */1 * * * *"), same()].into_iter(), now);
        assert_eq!(run(&mut agenda, now), [now, now]);
        // It was processed.
        agenda.replace([wanted("a", "x", "0 0-59 * * * *"), same()].into_iter(), now);
        assert_eq!(run(&mut agenda, now), [0; 0]);
        assert_eq!(agenda.next(), Some(now + 60));
        // A schedule of another component starts from now on.
        agenda.replace([wanted("a", "other", "0 * * * * *"), same()].into_iter(), now + 60);
        assert_eq!(run(&mut agenda, now + 60), [now + 60]);
        let nexts: Vec<_> = agenda.all(None).iter().map(|timed| timed.next).collect();
        assert_eq!(nexts, [Some(now + 120); 2]);
    }
}
