//! What an ended guest leaves behind: bytes of its response that its client has not read.
//!
//! Its permits are released at once if these bytes are few: few for one response ([`LITTLE`]), or within the limits of the
//! client's connection and address ([`Exchange`]) and of the tenant ([`Ledger::left`]). Otherwise the exchange keeps the
//! permits until the response is sent, and may be cut if another request needs a place.

use std::sync::Arc;

use crate::admission::Admitted;
use crate::host::Guest;
use crate::http::Exchange;
use crate::tenant::Ledger;

/// No more than a stream costs anyway.
const LITTLE: u64 = 2 << 10;

/// Bytes that count among those which a tenant's guests have left behind.
struct OfTenant(Arc<Ledger>, u64);

impl Drop for OfTenant {
    fn drop(&mut self) {
        self.0.left.give_back(self.1);
    }
}

/// Decides who keeps the permits of an ended guest. Unless the exchange keeps it, the tenant's place becomes free.
pub(super) fn release_permits(guest: &Guest, admitted: &Arc<Admitted>, exchange: Option<&Arc<Exchange>>) {
    let (left, is_counted) = guest.left();
    let exchange = exchange.filter(|exchange| exchange.has_client() && left > LITTLE);
    if exchange.is_none_or(|exchange| is_counted && is_kept(left, &admitted.routed.tenant().ledger, exchange)) {
        admitted.release_tenant_place();
    } else if let Some(exchange) = exchange {
        exchange.keep_permits(Box::new(Arc::clone(admitted)));
    }
}

/// Whether the rest may be kept without permits.
fn is_kept(left: u64, ledger: &Arc<Ledger>, exchange: &Exchange) -> bool {
    let of_tenant = ledger.left.add(left).then(|| OfTenant(Arc::clone(ledger), left));
    let of_client = of_tenant.and_then(|of_tenant| Some((exchange.reserve_backlog(left)?, of_tenant)));
    of_client.map(|kept| exchange.keep(Box::new(kept))).is_some()
}
