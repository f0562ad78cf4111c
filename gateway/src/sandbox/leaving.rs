//! What a guest that has ended leaves behind: bytes of its response that its client has not taken.
//!
//! Its permits go back at once where that is little, for one response ([`LITTLE`]) or on the whole: of the client's connection and
//! address ([`Exchange`]) and of the tenant ([`Ledger::left`]). Where it is more, the exchange keeps them until the response is out,
//! and may be cut where somebody needs a place.

use std::sync::Arc;

use crate::admission::Admitted;
use crate::host::Guest;
use crate::http::Exchange;
use crate::tenant::Ledger;

/// As much as a stream costs anyway.
const LITTLE: u64 = 2 << 10;

/// Bytes among those that a tenant's guests have left behind.
struct OfTenant(Arc<Ledger>, u64);

impl Drop for OfTenant {
    fn drop(&mut self) {
        self.0.left.give_back(self.1);
    }
}

/// Decides who has the permits of a guest that has ended. Its tenant's place is free from then on, unless the exchange keeps it.
pub(super) fn let_go(guest: &Guest, admitted: &Arc<Admitted>, exchange: Option<&Arc<Exchange>>) {
    let (left, is_counted) = guest.left();
    let exchange = exchange.filter(|exchange| exchange.has_client() && left > LITTLE);
    if exchange.is_none_or(|exchange| is_counted && is_kept(left, &admitted.routed.tenant().ledger, exchange)) {
        admitted.give_place_back();
    } else if let Some(exchange) = exchange {
        exchange.keep_permits(Box::new(Arc::clone(admitted)));
    }
}

/// Whether what is left is kept without permits.
fn is_kept(left: u64, ledger: &Arc<Ledger>, exchange: &Exchange) -> bool {
    let of_tenant = ledger.left.add(left).then(|| OfTenant(Arc::clone(ledger), left));
    let of_client = of_tenant.and_then(|of_tenant| Some((exchange.leave(left)?, of_tenant)));
    of_client.map(|kept| exchange.keep(Box::new(kept))).is_some()
}
