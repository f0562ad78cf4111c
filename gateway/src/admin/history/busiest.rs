//! Chooses the tenants that have a history: the busiest ones. Each tenant has a score for its recent use. A tenant without a place takes
//! the place of the tenant with the lowest score if its own score is twice as high. The factor prevents that two tenants with similar
//! use replace each other again and again.

use std::collections::HashMap;

use super::TENANTS_MAX;
use crate::telemetry::TotalsSnapshot;

/// A score halves in ten minutes, which are sixty steps: 0.5^(1/60).
const DECAY: f64 = 0.988_514;
/// This much fuel counts as much as one request.
const FUEL_A_REQUEST: u64 = 10_000_000;
/// A lower score counts as zero.
const SCORE_MIN: f64 = 0.01;
/// How many times busier a tenant must be than the one that it replaces.
const BUSIER: f64 = 2.0;

/// A tenant by its ledger's serial, with its requests and fuel since the process started.
pub(super) type Seen = (u64, u64, u64);

#[derive(Debug, Default)]
pub(super) struct Busiest {
    /// By serial.
    scores: HashMap<u64, Score>,
    kept: HashMap<u64, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Score {
    requests: u64,
    fuel: u64,
    score: f64,
}

/// The state of a tenant that has a place.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Its counters at the end of the previous step.
    pub(super) before: TotalsSnapshot,
    /// Whether `before` is unknown. Then the first step starts now.
    pub(super) is_new: bool,
    pub(super) in_flight_peak: u64,
    pub(super) memory_peak: u64,
}

impl Busiest {
    /// Ends a step: updates all scores, and gives places to the busiest tenants. Forgets tenants that are not in `all`.
    pub(super) fn step(&mut self, all: impl IntoIterator<Item = Seen>) {
        let before = std::mem::take(&mut self.scores);
        let mut without: Vec<(f64, u64, bool)> = Vec::new();
        for (serial, requests, fuel) in all {
            let was = before.get(&serial).copied();
            let is_first = was.is_none();
            let was = was.unwrap_or(Score { requests: 0, fuel: 0, score: 0.0 });
            let did = requests.saturating_sub(was.requests) + fuel.saturating_sub(was.fuel) / FUEL_A_REQUEST;
            let score = was.score * DECAY + lossy(did);
            if requests == 0 && fuel == 0 {
                continue;
            }
            if !self.kept.contains_key(&serial) && did > 0 {
                without.push((score, serial, is_first));
            }
            self.scores.insert(serial, Score { requests, fuel, score: if score < SCORE_MIN { 0.0 } else { score } });
        }
        self.kept.retain(|serial, _| self.scores.contains_key(serial));
        without.sort_unstable_by(|(a, ..), (b, ..)| b.total_cmp(a));
        for (score, serial, is_first) in without.into_iter().take(TENANTS_MAX) {
            if self.kept.len() >= TENANTS_MAX && !self.give_up_for(score) {
                break;
            }
            // If the tenant did nothing before this step, all that is counted belongs to this step.
            self.kept.insert(serial, Place { is_new: !is_first, ..Place::default() });
        }
    }

    /// Removes the tenant with the lowest score if this score is much higher. Returns whether it did.
    fn give_up_for(&mut self, score: f64) -> bool {
        let score_of = |serial: &u64| self.scores.get(serial).map_or(0.0, |score| score.score);
        let least = self.kept.keys().map(|serial| (score_of(serial), *serial)).min_by(|(a, _), (b, _)| a.total_cmp(b));
        let Some((_, serial)) = least.filter(|(least, _)| score > least * BUSIER) else { return false };
        self.kept.remove(&serial);
        true
    }

    pub(super) fn place(&mut self, serial: u64) -> Option<&mut Place> {
        self.kept.get_mut(&serial)
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        self.kept.len()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a score is only compared")]
const fn lossy(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_of_a_thousand_tenants_have_a_history() {
        let mut busiest = Busiest::default();
        let of = |serial: u64, steps: u64| (serial, serial * steps, 0);
        // The higher the serial, the more requests.
        for steps in 1..=3 {
            busiest.step((1..=1000).map(|serial| of(serial, steps)));
            assert_eq!(busiest.kept(), TENANTS_MAX);
        }
        assert!(busiest.place(1000).is_some() && busiest.place(937).is_some() && busiest.place(936).is_none());
        // The least busy tenant with a place becomes idle, and a quiet tenant becomes busy.
        let mut requests = 3;
        for step in 4..200 {
            requests += 50;
            let all = (1..=1000).map(|serial| match serial {
                1 => (1, requests, 0),
                937 => of(937, 3),
                serial => of(serial, step),
            });
            busiest.step(all);
            assert_eq!(busiest.kept(), TENANTS_MAX);
        }
        assert!(busiest.place(937).is_none() && busiest.place(1000).is_some());
        // Nothing is kept of tenants that are gone.
        busiest.step([of(5, 200)]);
        assert_eq!((busiest.kept(), busiest.scores.len()), (1, 1));
    }

    #[test]
    fn tenants_with_equal_use_do_not_replace_each_other() {
        let mut busiest = Busiest::default();
        let last = TENANTS_MAX as u64 + 1;
        busiest.step((1..last).map(|serial| (serial, 100, 0)));
        for step in 2..100 {
            busiest.step((1..=last).map(|serial| (serial, 100 * step, 0)));
            assert!(busiest.place(last).is_none() && busiest.place(1).is_some());
        }
    }

    #[test]
    fn fuel_without_requests_counts_as_use() {
        let mut busiest = Busiest::default();
        busiest.step([(1, 0, FUEL_A_REQUEST), (2, 0, 0)]);
        assert!(busiest.place(1).is_some_and(|place| !place.is_new) && busiest.place(2).is_none());
    }
}
