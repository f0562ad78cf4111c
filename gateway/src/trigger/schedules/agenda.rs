//! Which schedule is due next, of all tenants': a heap with one moment for each. Pure: the time is told.
//!
//! Invariant: the moment of a schedule moves on from the last one and never from the clock, so that a clock that was set back
//! gives none twice. A reload keeps the moment of a schedule that says what it said before.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::ids::{ComponentName, TenantId};
use crate::route::{Expression, ScheduleId};

/// What is so many seconds late is missed.
pub(super) const LATE: u64 = 30;
/// Of one schedule, so many missed moments are counted one by one; a clock that was set ahead by a year must not cost more.
const MISSED_MAX: u64 = 1000;

/// One schedule of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: TenantId,
    pub(super) schedule: ScheduleId,
}

/// What the configuration says.
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) component: ComponentName,
    pub(super) expression: Expression,
}

/// What has come of one schedule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) key: Key,
    /// To be run, in seconds since 1970; nothing where all were missed.
    pub(super) at: Option<u64>,
    /// Whether no run of this schedule goes on here. Whoever has it says when it has ended.
    pub(super) is_free: bool,
    pub(super) missed: u64,
}

/// A schedule, for whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub(crate) tenant: TenantId,
    pub(crate) component: ComponentName,
    pub(crate) expression: Expression,
    /// In seconds since 1970; nothing where it will never be due again.
    pub(crate) next: Option<u64>,
    pub(crate) is_running: bool,
    /// The last moment since this process started, and what came of it.
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
    /// Where they are.
    index: HashMap<Key, usize>,
    /// Moments of entries, one each while there is another.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    /// Whose run goes on, in the configuration or not any more.
    running: HashSet<Key>,
}

impl Agenda {
    /// Puts another configuration in force. What is new begins after now, or where it replaces what was due and not looked at
    /// yet: a changed expression of a component loses no moment that both have.
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

    /// When something is due next.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// What is due by now: of each schedule the newest moment, those before it being missed.
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

    /// The run of a moment that was free has ended, or was never begun; of one that was not, it is said why.
    pub(super) fn ended(&mut self, moment: &Moment, outcome: &'static str) {
        if moment.is_free {
            self.running.remove(&moment.key);
        }
        let entry = self.index.get(&moment.key).and_then(|index| self.entries.get_mut(*index));
        if let (Some(entry), Some(at)) = (entry, moment.at) {
            entry.last = Some((at, outcome));
        }
    }

    /// All that there are, or a tenant's, in no order.
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
    /// Moves on beyond now; the newest moment until then, and how many are missed.
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

/// The time as it goes on: it stands while the machine's clock is behind what it was.
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

    /// Those that are run, each of which ends at once.
    fn run(agenda: &mut Agenda, now: u64) -> Vec<u64> {
        let due = agenda.due(now);
        due.iter().for_each(|moment| agenda.ended(moment, "ok"));
        due.into_iter().filter_map(|moment| moment.at).collect()
    }

    #[test]
    fn each_moment_comes_once_and_in_its_order() {
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
    fn nothing_is_asked_of_schedules_that_are_not_due() {
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
    fn what_comes_too_late_is_missed_and_counted() {
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
    fn a_clock_that_is_set_back_gives_no_moment_twice() {
        let mut agenda = agenda([wanted("a", "x", "*/10 * * * * *")], DAY);
        let mut clock = Forward::default();
        let mut seen = Vec::new();
        for clock_ms in [DAY + 10, DAY + 20, DAY + 3, DAY + 10, DAY + 20, DAY + 29, DAY + 30].map(|at| at * 1000) {
            let now = clock.at(clock_ms) / 1000;
            // A reload in between begins what is new after the latest time that was seen.
            agenda.replace([wanted("a", "x", "*/10 * * * * *"), wanted("a", "y", "*/10 * * * * *")].into_iter(), now);
            seen.extend(run(&mut agenda, now));
        }
        assert_eq!(seen, [10, 20, 20, 30, 30].map(|after| DAY + after));
    }

    #[test]
    fn a_run_that_goes_on_is_not_free_whatever_is_reloaded() {
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
        // It is due, and nobody looked yet: a's expression changes, b's stays.
        let (now, same) = (DAY + 60, || wanted("b", "x", "0 * * * * *"));
        agenda.replace([wanted("a", "x", "0 */1 * * * *"), same()].into_iter(), now);
        assert_eq!(run(&mut agenda, now), [now, now]);
        // It was looked at.
        agenda.replace([wanted("a", "x", "0 0-59 * * * *"), same()].into_iter(), now);
        assert_eq!(run(&mut agenda, now), [0; 0]);
        assert_eq!(agenda.next(), Some(now + 60));
        // Another component's begins from now on.
        agenda.replace([wanted("a", "other", "0 * * * * *"), same()].into_iter(), now + 60);
        assert_eq!(run(&mut agenda, now + 60), [now + 60]);
        let nexts: Vec<_> = agenda.all(None).iter().map(|timed| timed.next).collect();
        assert_eq!(nexts, [Some(now + 120); 2]);
    }
}
